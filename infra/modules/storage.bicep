// Three accounts, because their users differ: the lake; the app's own (host, queue, ledger, package); Azure ML's.
param location string
param tags object
param token string
param publicNetworkAccess string
param redundancy string
param logs string

var networkAcls = {
  // Event Grid writes dead letters as a trusted service.
  bypass: 'AzureServices'
  defaultAction: publicNetworkAccess == 'Enabled' ? 'Allow' : 'Deny'
}

resource lake 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: 'lake${token}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: redundancy }
  properties: {
    isHnsEnabled: true
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: publicNetworkAccess
    networkAcls: networkAcls
  }
}

resource lakeBlobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: lake
  name: 'default'
  properties: {
    deleteRetentionPolicy: { enabled: true, days: 7 }
    containerDeleteRetentionPolicy: { enabled: true, days: 7 }
  }
}

resource lakeContainers 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = [
  for name in ['lake', 'deadletter', 'synapse']: {
    parent: lakeBlobs
    name: name
    properties: { publicAccess: 'None' }
  }
]

resource lakeLifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2024-01-01' = {
  parent: lake
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'dead-letters'
          type: 'Lifecycle'
          enabled: true
          definition: {
            filters: { blobTypes: ['blockBlob'], prefixMatch: ['deadletter/'] }
            actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: 90 } } }
          }
        }
      ]
    }
  }
}

resource lakeAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: lakeBlobs
  properties: {
    workspaceId: logs
    logs: [
      { category: 'StorageRead', enabled: true }
      { category: 'StorageWrite', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

resource app 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: 'app${token}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: redundancy }
  properties: {
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: publicNetworkAccess
    networkAcls: networkAcls
  }
}

resource appBlobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: app
  name: 'default'
}

resource package 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: appBlobs
  name: 'deployment'
  properties: { publicAccess: 'None' }
}

resource appQueues 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' = {
  parent: app
  name: 'default'
}

resource signals 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = [
  for name in ['landfall-signals', 'landfall-signals-poison']: {
    parent: appQueues
    name: name
  }
]

resource appTables 'Microsoft.Storage/storageAccounts/tableServices@2024-01-01' = {
  parent: app
  name: 'default'
}

resource appAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: appBlobs
  properties: {
    workspaceId: logs
    logs: [
      { category: 'StorageWrite', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

resource ml 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: 'ml${token}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: redundancy }
  properties: {
    allowBlobPublicAccess: false
    // Azure ML hands its SDK a signed address to upload code to, which it makes with the account's key.
    allowSharedKeyAccess: true
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: publicNetworkAccess
    networkAcls: networkAcls
  }
}

resource mlBlobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: ml
  name: 'default'
}

resource mlAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: mlBlobs
  properties: {
    workspaceId: logs
    logs: [
      { category: 'StorageWrite', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

output lakeId string = lake.id
output lakeName string = lake.name
output lakeUrl string = lake.properties.primaryEndpoints.dfs
output appId string = app.id
output appName string = app.name
output mlId string = ml.id
output mlName string = ml.name
