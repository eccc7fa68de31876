// The Azure ML workspace and what it brings: vault and registry.
param location string
param tags object
param token string
param isolated bool
param clusterName string
param storageAccount string
param lake string
param applicationInsights string
param logs string

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  name: 'kv-${token}'
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enablePurgeProtection: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 7
    publicNetworkAccess: isolated ? 'Disabled' : 'Enabled'
    networkAcls: { bypass: 'AzureServices', defaultAction: isolated ? 'Deny' : 'Allow' }
  }
}

resource registry 'Microsoft.ContainerRegistry/registries@2025-04-01' = {
  name: 'cr${token}'
  location: location
  tags: tags
  // Private endpoints need Premium.
  sku: { name: isolated ? 'Premium' : 'Standard' }
  properties: {
    adminUserEnabled: false
    publicNetworkAccess: isolated ? 'Disabled' : 'Enabled'
    networkRuleBypassOptions: 'AzureServices'
  }
}

resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-06-01' = {
  name: 'mlw-${token}'
  location: location
  tags: tags
  kind: 'Default'
  sku: { name: 'Basic', tier: 'Basic' }
  // Azure ML itself gives this identity its roles on the vault, the registry and its storage account.
  identity: { type: 'SystemAssigned' }
  properties: {
    friendlyName: 'Landfall'
    storageAccount: storageAccount
    keyVault: vault.id
    containerRegistry: registry.id
    applicationInsights: applicationInsights
    publicNetworkAccess: isolated ? 'Disabled' : 'Enabled'
    v1LegacyMode: false
    // A registry without public access cannot build images; the cluster does it then.
    imageBuildCompute: isolated ? clusterName : null
    managedNetwork: isolated
      ? {
          isolationMode: 'AllowInternetOutbound'
          outboundRules: {
            lake: {
              type: 'PrivateEndpoint'
              category: 'UserDefined'
              destination: { serviceResourceId: lake, subresourceTarget: 'blob', sparkEnabled: false }
            }
          }
        }
      : { isolationMode: 'Disabled' }
  }
}

resource vaultAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: vault
  properties: { workspaceId: logs, logs: [{ categoryGroup: 'audit', enabled: true }] }
}

resource registryAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: registry
  properties: { workspaceId: logs, logs: [{ categoryGroup: 'audit', enabled: true }] }
}

resource workspaceAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: workspace
  properties: { workspaceId: logs, logs: [{ categoryGroup: 'allLogs', enabled: true }] }
}

output workspaceId string = workspace.id
output workspaceName string = workspace.name
output principal string = workspace.identity.principalId
output vaultId string = vault.id
output registryId string = registry.id
output registryName string = registry.name
