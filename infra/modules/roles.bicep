// Who may do what. Every grant names the call that needs it; Azure shows that as the assignment's description.
param isolated bool
param appAccount string
param lakeAccount string
param mlAccount string
param mlWorkspace string
param registry string
param eventTopic string
param insights string
param appPrincipal string
param jobsPrincipal string
param mlPrincipal string
param synapsePrincipal string
param lakeEventsPrincipal string
param mlEventsPrincipal string
param operatorPrincipal string
param operatorType string

var roles = {
  AcrPull: '7f951dda-4ed3-4680-a7ca-43fe172d538d'
  AcrPush: '8311e382-0749-4cb8-b61a-304f252e45ec'
  'Azure AI Enterprise Network Connection Approver': 'b556d68e-0be0-4f35-a333-ad7ee1ce17ea'
  'AzureML Data Scientist': 'f6c7c914-8db3-469d-8ca1-694a8f32e121'
  'EventGrid Data Sender': 'd5a91429-5739-47e2-a06b-3470a27159e7'
  'Monitoring Metrics Publisher': '3913510d-42f4-4e42-8a64-420c390055eb'
  'Storage Blob Data Contributor': 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  'Storage Blob Data Owner': 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  'Storage Blob Data Reader': '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
  'Storage Queue Data Contributor': '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  'Storage Table Data Contributor': '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
}

var onAppAccount = [
  { to: appPrincipal, role: 'Storage Blob Data Owner', call: 'The Functions host: locks, keys, timers and the package.' }
  { to: appPrincipal, role: 'Storage Queue Data Contributor', call: 'SignalQueue.send, the queue triggers and the poison queue.' }
  { to: appPrincipal, role: 'Storage Table Data Contributor', call: 'RunLedger: insert, replace, read and query.' }
]
var onLakeContainer = [
  { to: appPrincipal, role: 'Storage Blob Data Contributor', call: 'Lake: write, read, list; Spark batches run as the app.' }
  { to: jobsPrincipal, role: 'Storage Blob Data Contributor', call: 'Jobs read uri_folder inputs; batch scoring writes its output and progress.' }
  { to: synapsePrincipal, role: 'Storage Blob Data Contributor', call: 'Synapse pipelines copy rows in and scores out.' }
]
var onSynapseContainer = [
  { to: appPrincipal, role: 'Storage Blob Data Contributor', call: 'Spark batches of the app keep their logs there.' }
  { to: synapsePrincipal, role: 'Storage Blob Data Contributor', call: 'The workspace keeps its own files there.' }
]
var onDeadletterContainer = [
  { to: lakeEventsPrincipal, role: 'Storage Blob Data Contributor', call: 'Event Grid writes storage events that it gave up on.' }
  { to: mlEventsPrincipal, role: 'Storage Blob Data Contributor', call: 'Event Grid writes Azure ML events that it gave up on.' }
]
var onMlAccount = [
  { to: appPrincipal, role: 'Storage Blob Data Reader', call: 'JobFiles.read: metrics, reports and MLmodel of jobs.' }
  { to: jobsPrincipal, role: 'Storage Blob Data Contributor', call: 'Jobs write their outputs to workspaceblobstore.' }
]
var onMlWorkspace = [
  { to: appPrincipal, role: 'AzureML Data Scientist', call: 'Jobs, models, endpoints and deployments; scoring with a token.' }
  { to: synapsePrincipal, role: 'AzureML Data Scientist', call: 'Synapse pipelines invoke the batch endpoint.' }
]
var onRegistry = [
  { to: jobsPrincipal, role: isolated ? 'AcrPush' : 'AcrPull', call: 'Cluster nodes pull images; with isolated they build them.' }
]

var onEventTopic = [
  { to: appPrincipal, role: 'EventGrid Data Sender', call: 'EventPublisher.publish.' }
]
var onInsights = [
  { to: appPrincipal, role: 'Monitoring Metrics Publisher', call: 'Traces and logs of the host and of shared/telemetry.py.' }
]

resource appStore 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: appAccount
}

resource lakeStore 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: lakeAccount

  resource blobs 'blobServices' existing = {
    name: 'default'

    resource lake 'containers' existing = {
      name: 'lake'
    }

    resource synapse 'containers' existing = {
      name: 'synapse'
    }

    resource deadletter 'containers' existing = {
      name: 'deadletter'
    }
  }
}

resource mlStore 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: mlAccount
}

resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-06-01' existing = {
  name: mlWorkspace
}

resource images 'Microsoft.ContainerRegistry/registries@2025-04-01' existing = {
  name: registry
}

resource topic 'Microsoft.EventGrid/topics@2025-02-15' existing = {
  name: eventTopic
}

resource traces 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insights
}

resource appAccountGrants 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in onAppAccount: {
    name: guid(appStore.id, grant.to, grant.role)
    scope: appStore
    properties: {
      principalId: grant.to
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles[grant.role])
      description: grant.call
    }
  }
]

resource lakeGrants 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in onLakeContainer: {
    name: guid(lakeStore::blobs::lake.id, grant.to, grant.role)
    scope: lakeStore::blobs::lake
    properties: {
      principalId: grant.to
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles[grant.role])
      description: grant.call
    }
  }
]

resource synapseGrants 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in onSynapseContainer: {
    name: guid(lakeStore::blobs::synapse.id, grant.to, grant.role)
    scope: lakeStore::blobs::synapse
    properties: {
      principalId: grant.to
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles[grant.role])
      description: grant.call
    }
  }
]

resource deadletterGrants 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in onDeadletterContainer: {
    name: guid(lakeStore::blobs::deadletter.id, grant.to, grant.role)
    scope: lakeStore::blobs::deadletter
    properties: {
      principalId: grant.to
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles[grant.role])
      description: grant.call
    }
  }
]

resource mlAccountGrants 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in onMlAccount: {
    name: guid(mlStore.id, grant.to, grant.role)
    scope: mlStore
    properties: {
      principalId: grant.to
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles[grant.role])
      description: grant.call
    }
  }
]

resource mlWorkspaceGrants 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in onMlWorkspace: {
    name: guid(workspace.id, grant.to, grant.role)
    scope: workspace
    properties: {
      principalId: grant.to
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles[grant.role])
      description: grant.call
    }
  }
]

resource registryGrants 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in onRegistry: {
    name: guid(images.id, grant.to, grant.role)
    scope: images
    properties: {
      principalId: grant.to
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles[grant.role])
      description: grant.call
    }
  }
]

resource topicGrants 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in onEventTopic: {
    name: guid(topic.id, grant.to, grant.role)
    scope: topic
    properties: {
      principalId: grant.to
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles[grant.role])
      description: grant.call
    }
  }
]

resource insightsGrants 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in onInsights: {
    name: guid(traces.id, grant.to, grant.role)
    scope: traces
    properties: {
      principalId: grant.to
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles[grant.role])
      description: grant.call
    }
  }
]

resource approverGrant 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (isolated) {
  name: guid(lakeStore.id, mlPrincipal, 'Azure AI Enterprise Network Connection Approver')
  scope: lakeStore
  properties: {
    principalId: mlPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles['Azure AI Enterprise Network Connection Approver']
    )
    description: 'The managed network of Azure ML opens its private endpoint to the lake.'
  }
}

resource operatorGrant 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorPrincipal)) {
  name: guid(lakeStore::blobs::lake.id, operatorPrincipal, 'Storage Blob Data Contributor')
  scope: lakeStore::blobs::lake
  properties: {
    principalId: operatorPrincipal
    principalType: operatorType
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles['Storage Blob Data Contributor']
    )
    description: 'Who deployed lands files: az storage blob upload.'
  }
}

resource operatorQueueGrant 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorPrincipal)) {
  name: guid(appStore.id, operatorPrincipal, 'Storage Queue Data Contributor')
  scope: appStore
  properties: {
    principalId: operatorPrincipal
    principalType: operatorType
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles['Storage Queue Data Contributor']
    )
    description: 'Who deployed replays dead letters: landfall events replay.'
  }
}

resource operatorLedgerGrant 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorPrincipal)) {
  name: guid(appStore.id, operatorPrincipal, 'Storage Table Data Contributor')
  scope: appStore
  properties: {
    principalId: operatorPrincipal
    principalType: operatorType
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles['Storage Table Data Contributor']
    )
    description: 'Who deployed reads and asks: landfall status, why, events.'
  }
}
