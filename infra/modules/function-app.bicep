// The function app on Flex Consumption: no instance while nothing happens.
param location string
param tags object
param token string
param pythonVersion string
param identityId string
param identityClient string
param subnet string
param isolated bool
param callerRanges array
param appAccount string
param lakeAccount string
param mlWorkspace string
param synapseWorkspace string
param sparkPool string
param sqlPool string
param eventsTopic string
param insightsConnection string
param logs string

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: appAccount
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-${token}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: 'func-landfall-${token}'
  location: location
  tags: union(tags, { 'azd-service-name': 'app' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    // Event Grid delivers over the public address; isolated lets in nobody else but callerRanges.
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: isolated ? subnet : null
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${account.properties.primaryEndpoints.blob}deployment'
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
      runtime: { name: 'python', version: pythonVersion }
      scaleAndConcurrency: { instanceMemoryMB: 2048, maximumInstanceCount: 40 }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      ipSecurityRestrictionsDefaultAction: isolated ? 'Deny' : 'Allow'
      ipSecurityRestrictions: isolated
        ? concat(
            [{ name: 'event-grid', tag: 'ServiceTag', ipAddress: 'AzureEventGrid', action: 'Allow', priority: 100 }],
            map(callerRanges, (address, i) => { name: 'caller-${i}', ipAddress: address, action: 'Allow', priority: 200 + i })
          )
        : []
      scmIpSecurityRestrictionsUseMain: false
      appSettings: [
        { name: 'AzureWebJobsStorage__accountName', value: account.name }
        { name: 'AzureWebJobsStorage__credential', value: 'managedidentity' }
        { name: 'AzureWebJobsStorage__clientId', value: identityClient }
        { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: insightsConnection }
        { name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING', value: 'ClientId=${identityClient};Authorization=AAD' }
        // DefaultAzureCredential takes a user-assigned identity only by its client id.
        { name: 'AZURE_CLIENT_ID', value: identityClient }
        { name: 'LANDFALL_BACKEND', value: 'azure' }
        { name: 'LANDFALL_LAKE_ACCOUNT', value: lakeAccount }
        { name: 'LANDFALL_LAKE_CONTAINER', value: 'lake' }
        { name: 'LANDFALL_SUBSCRIPTION', value: subscription().subscriptionId }
        { name: 'LANDFALL_RESOURCE_GROUP', value: resourceGroup().name }
        { name: 'LANDFALL_WORKSPACE', value: mlWorkspace }
        { name: 'LANDFALL_SYNAPSE', value: synapseWorkspace }
        { name: 'LANDFALL_SPARK_POOL', value: sparkPool }
        { name: 'LANDFALL_EVENTS_TOPIC', value: eventsTopic }
        { name: 'LANDFALL_SQL_POOL', value: sqlPool }
        { name: 'LANDFALL_FUNCTION_APP', value: 'func-landfall-${token}' }
      ]
    }
  }
}

resource ftpPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}

resource scmPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: app
  properties: { workspaceId: logs, logs: [{ categoryGroup: 'allLogs', enabled: true }] }
}

output name string = app.name
output url string = 'https://${app.properties.defaultHostName}'
