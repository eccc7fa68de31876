// The Synapse workspace and the Spark pool of features jobs: paused while nothing runs.
param location string
param tags object
param token string
param isolated bool
param lakeId string
param lakeUrl string
param administrator string
param sparkNodes int
param logs string

resource workspace 'Microsoft.Synapse/workspaces@2021-06-01' = {
  name: 'syn-${token}'
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: {
    // Only Entra identities sign in, so there is no password.
    azureADOnlyAuthentication: true
    cspWorkspaceAdminProperties: empty(administrator) ? null : { initialWorkspaceAdminObjectId: administrator }
    defaultDataLakeStorage: {
      accountUrl: lakeUrl
      filesystem: 'synapse'
      resourceId: lakeId
      createManagedPrivateEndpoint: isolated
    }
    managedVirtualNetwork: isolated ? 'default' : null
    publicNetworkAccess: isolated ? 'Disabled' : 'Enabled'
    trustedServiceBypassEnabled: true
  }
}

// Without a rule nobody gets in. Addresses of a Flex Consumption app are not known; the token decides.
resource firewall 'Microsoft.Synapse/workspaces/firewallRules@2021-06-01' = if (!isolated) {
  parent: workspace
  name: 'everywhere'
  properties: { startIpAddress: '0.0.0.0', endIpAddress: '255.255.255.255' }
}

resource pool 'Microsoft.Synapse/workspaces/bigDataPools@2021-06-01' = {
  parent: workspace
  name: 'features'
  location: location
  tags: tags
  properties: {
    nodeSize: 'Small'
    nodeSizeFamily: 'MemoryOptimized'
    sparkVersion: '3.5'
    autoPause: { enabled: true, delayInMinutes: 15 }
    autoScale: { enabled: true, minNodeCount: 3, maxNodeCount: sparkNodes }
    sessionLevelPackagesEnabled: true
  }
}

resource workspaceAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: workspace
  properties: { workspaceId: logs, logs: [{ categoryGroup: 'allLogs', enabled: true }] }
}

resource poolAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: pool
  properties: { workspaceId: logs, logs: [{ categoryGroup: 'allLogs', enabled: true }] }
}

output workspaceId string = workspace.id
output workspaceName string = workspace.name
output poolName string = pool.name
output principal string = workspace.identity.principalId
