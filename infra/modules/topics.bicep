// What raises events, and the topic that Landfall publishes its own to.
param location string
param tags object
param token string
param publicNetworkAccess string
param lake string
param mlWorkspace string
param logs string

resource lakeEvents 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: 'evgst-lake-${token}'
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: { source: lake, topicType: 'Microsoft.Storage.StorageAccounts' }
}

resource mlEvents 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: 'evgst-ml-${token}'
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: { source: mlWorkspace, topicType: 'Microsoft.MachineLearningServices.Workspaces' }
}

resource topic 'Microsoft.EventGrid/topics@2025-02-15' = {
  name: 'evgt-landfall-${token}'
  location: location
  tags: tags
  properties: {
    inputSchema: 'CloudEventSchemaV1_0'
    disableLocalAuth: true
    minimumTlsVersionAllowed: '1.2'
    publicNetworkAccess: publicNetworkAccess
  }
}

resource lakeEventsAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: lakeEvents
  properties: { workspaceId: logs, logs: [{ category: 'DeliveryFailures', enabled: true }] }
}

resource mlEventsAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: mlEvents
  properties: { workspaceId: logs, logs: [{ category: 'DeliveryFailures', enabled: true }] }
}

resource topicAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'landfall'
  scope: topic
  properties: { workspaceId: logs, logs: [{ categoryGroup: 'allLogs', enabled: true }] }
}

output lakeEventsName string = lakeEvents.name
output lakeEventsPrincipal string = lakeEvents.identity.principalId
output mlEventsName string = mlEvents.name
output mlEventsPrincipal string = mlEvents.identity.principalId
output topicId string = topic.id
output topicName string = topic.name
output topicAddress string = topic.properties.endpoint
