// The compute cluster of training and evaluation jobs: no node while nothing runs.
param location string
param tags object
param workspaceName string
param clusterName string
param clusterSize string
param jobsIdentity string
param isolated bool

resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-06-01' existing = {
  name: workspaceName
}

resource cluster 'Microsoft.MachineLearningServices/workspaces/computes@2025-06-01' = {
  parent: workspace
  name: clusterName
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${jobsIdentity}': {} }
  }
  properties: {
    computeType: 'AmlCompute'
    properties: {
      osType: 'Linux'
      vmSize: clusterSize
      vmPriority: 'Dedicated'
      enableNodePublicIp: !isolated
      remoteLoginPortPublicAccess: 'Disabled'
      scaleSettings: { minNodeCount: 0, maxNodeCount: 4, nodeIdleTimeBeforeScaleDown: 'PT300S' }
    }
  }
}

output name string = cluster.name
