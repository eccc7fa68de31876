// Everything that the loop needs in one resource group. Event subscriptions come after the code, see subscriptions.bicep.
targetScope = 'subscription'

@minLength(1)
@maxLength(40)
@description('Name of the azd environment; part of the resource group\'s name and of the token in all names.')
param environmentName string

@minLength(1)
@description('Region of all resources. It must offer Flex Consumption, Synapse and the VM sizes of your pipelines.')
param location string

@description('Object id of who deploys: may land files and administers Synapse. azd fills it in.')
param principalId string = ''

@allowed(['User', 'ServicePrincipal', 'Group'])
param principalType string = 'User'

@description('Private endpoints for every service and no public access to them. The function app stays reachable for Event Grid.')
param isolated bool = false

@description('With isolated: address ranges (CIDR) that may call the HTTP functions.')
param callerRanges array = []

@description('Name of the Azure ML compute cluster, as pipelines name it in training.compute.')
param clusterName string = 'cpu-cluster'

@description('VM size of the compute cluster.')
param clusterSize string = 'Standard_DS3_v2'

@minValue(3)
@maxValue(200)
@description('Most nodes that the Spark pool grows to.')
param sparkNodes int = 10

@description('A dedicated SQL pool of the Synapse workspace, made by you, that batch scoring may read from and load into.')
param sqlPool string = ''

@minValue(30)
@maxValue(730)
@description('Days that logs are kept.')
param logDays int = 30

@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GZRS'])
@description('Copies of the storage accounts\' data; not every region offers all.')
param redundancy string = 'Standard_ZRS'

@allowed(['3.11', '3.12', '3.13'])
param pythonVersion string = '3.12'

var token = toLower(uniqueString(subscription().id, environmentName, location))
var tags = { 'azd-env-name': environmentName }
var publicNetworkAccess = isolated ? 'Disabled' : 'Enabled'

resource group 'Microsoft.Resources/resourceGroups@2024-11-01' = {
  name: 'rg-landfall-${environmentName}'
  location: location
  tags: tags
}

module monitoring 'modules/monitoring.bicep' = {
  scope: group
  params: { location: location, tags: tags, token: token, logDays: logDays }
}

module identities 'modules/identities.bicep' = {
  scope: group
  params: { location: location, tags: tags, token: token }
}

module network 'modules/network.bicep' = if (isolated) {
  scope: group
  params: { location: location, tags: tags, token: token }
}

module storage 'modules/storage.bicep' = {
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    publicNetworkAccess: publicNetworkAccess
    redundancy: redundancy
    logs: monitoring.outputs.logs
  }
}

module machineLearning 'modules/machine-learning.bicep' = {
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    isolated: isolated
    clusterName: clusterName
    storageAccount: storage.outputs.mlId
    lake: storage.outputs.lakeId
    applicationInsights: monitoring.outputs.insightsId
    logs: monitoring.outputs.logs
  }
}

module synapse 'modules/synapse.bicep' = {
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    isolated: isolated
    lakeId: storage.outputs.lakeId
    lakeUrl: storage.outputs.lakeUrl
    administrator: principalId
    sparkNodes: sparkNodes
    logs: monitoring.outputs.logs
  }
}

module topics 'modules/topics.bicep' = {
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    publicNetworkAccess: publicNetworkAccess
    lake: storage.outputs.lakeId
    mlWorkspace: machineLearning.outputs.workspaceId
    logs: monitoring.outputs.logs
  }
}

module roles 'modules/roles.bicep' = {
  scope: group
  params: {
    isolated: isolated
    appAccount: storage.outputs.appName
    lakeAccount: storage.outputs.lakeName
    mlAccount: storage.outputs.mlName
    mlWorkspace: machineLearning.outputs.workspaceName
    registry: machineLearning.outputs.registryName
    eventTopic: topics.outputs.topicName
    insights: monitoring.outputs.insightsName
    appPrincipal: identities.outputs.appPrincipal
    jobsPrincipal: identities.outputs.jobsPrincipal
    mlPrincipal: machineLearning.outputs.principal
    synapsePrincipal: synapse.outputs.principal
    lakeEventsPrincipal: topics.outputs.lakeEventsPrincipal
    mlEventsPrincipal: topics.outputs.mlEventsPrincipal
    operatorPrincipal: principalId
    operatorType: principalType
  }
}

module cluster 'modules/cluster.bicep' = {
  scope: group
  params: {
    location: location
    tags: tags
    workspaceName: machineLearning.outputs.workspaceName
    clusterName: clusterName
    clusterSize: clusterSize
    jobsIdentity: identities.outputs.jobsId
    isolated: isolated
  }
  // Its network is made with the first node, and may only then approve its way to the lake.
  dependsOn: [roles]
}

module endpoints 'modules/private-endpoints.bicep' = if (isolated) {
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    subnet: isolated ? network!.outputs.endpointsSubnet : ''
    targets: [
      { name: 'lake-blob', service: storage.outputs.lakeId, group: 'blob', zones: ['privatelink.blob.${environment().suffixes.storage}'] }
      { name: 'lake-dfs', service: storage.outputs.lakeId, group: 'dfs', zones: ['privatelink.dfs.${environment().suffixes.storage}'] }
      { name: 'app-blob', service: storage.outputs.appId, group: 'blob', zones: ['privatelink.blob.${environment().suffixes.storage}'] }
      { name: 'app-queue', service: storage.outputs.appId, group: 'queue', zones: ['privatelink.queue.${environment().suffixes.storage}'] }
      { name: 'app-table', service: storage.outputs.appId, group: 'table', zones: ['privatelink.table.${environment().suffixes.storage}'] }
      { name: 'ml-blob', service: storage.outputs.mlId, group: 'blob', zones: ['privatelink.blob.${environment().suffixes.storage}'] }
      { name: 'ml-file', service: storage.outputs.mlId, group: 'file', zones: ['privatelink.file.${environment().suffixes.storage}'] }
      { name: 'vault', service: machineLearning.outputs.vaultId, group: 'vault', zones: ['privatelink.vaultcore.azure.net'] }
      { name: 'registry', service: machineLearning.outputs.registryId, group: 'registry', zones: ['privatelink.azurecr.io'] }
      { name: 'ml', service: machineLearning.outputs.workspaceId, group: 'amlworkspace', zones: ['privatelink.api.azureml.ms', 'privatelink.notebooks.azure.net'] }
      { name: 'synapse', service: synapse.outputs.workspaceId, group: 'Dev', zones: ['privatelink.dev.azuresynapse.net'] }
      { name: 'synapse-sql', service: synapse.outputs.workspaceId, group: 'Sql', zones: ['privatelink.sql.azuresynapse.net'] }
      { name: 'topic', service: topics.outputs.topicId, group: 'topic', zones: ['privatelink.eventgrid.azure.net'] }
    ]
  }
}

module app 'modules/function-app.bicep' = {
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    pythonVersion: pythonVersion
    identityId: identities.outputs.appId
    identityClient: identities.outputs.appClient
    subnet: isolated ? network!.outputs.appSubnet : ''
    isolated: isolated
    callerRanges: callerRanges
    appAccount: storage.outputs.appName
    lakeAccount: storage.outputs.lakeName
    mlWorkspace: machineLearning.outputs.workspaceName
    synapseWorkspace: synapse.outputs.workspaceName
    sparkPool: synapse.outputs.poolName
    sqlPool: sqlPool
    eventsTopic: topics.outputs.topicAddress
    insightsConnection: monitoring.outputs.connectionString
    logs: monitoring.outputs.logs
  }
  // The host reads its storage when it starts, so its roles come first.
  dependsOn: [roles, endpoints]
}

output AZURE_LOCATION string = location
output AZURE_RESOURCE_GROUP string = group.name
output FUNCTION_APP string = app.outputs.name
output FUNCTION_APP_URL string = app.outputs.url
output APP_PRINCIPAL string = identities.outputs.appPrincipal
output LAKE_ACCOUNT string = storage.outputs.lakeName
output LAKE_TOPIC string = topics.outputs.lakeEventsName
output ML_TOPIC string = topics.outputs.mlEventsName
output ML_WORKSPACE string = machineLearning.outputs.workspaceName
output SYNAPSE_WORKSPACE string = synapse.outputs.workspaceName

// What landfall setup and doctor read, under the names of their settings: azd env get-values gives them out.
output LANDFALL_BACKEND string = 'azure'
output LANDFALL_SUBSCRIPTION string = subscription().subscriptionId
output LANDFALL_RESOURCE_GROUP string = group.name
output LANDFALL_FUNCTION_APP string = app.outputs.name
output LANDFALL_LAKE_ACCOUNT string = storage.outputs.lakeName
output LANDFALL_WORKSPACE string = machineLearning.outputs.workspaceName
output LANDFALL_SYNAPSE string = synapse.outputs.workspaceName
output LANDFALL_SPARK_POOL string = synapse.outputs.poolName
output LANDFALL_SQL_POOL string = sqlPool
output LANDFALL_EVENTS_TOPIC string = topics.outputs.topicAddress
output AzureWebJobsStorage__accountName string = storage.outputs.appName
