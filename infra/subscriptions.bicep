// Event subscriptions: deployed after the code, because Event Grid looks whether the function exists.
param lakeTopic string
param mlTopic string
param lakeAccount string
param functionApp string

@description('Folder of the lake below which files land; every landing.path lies in it.')
param landing string = 'landing/'

var lake = '/blobServices/default/containers/lake/blobs/'

// The calls that leave a whole file behind. CreateFile, which opens an empty one, is not among them.
var committed = [
  'CopyBlob'
  'FlushWithClose'
  'PutBlob'
  'PutBlockList'
  'RenameDirectory'
  'RenameFile'
  'SftpCommit'
]

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: lakeAccount
}

resource app 'Microsoft.Web/sites@2024-04-01' existing = {
  name: functionApp
}

resource lakeEvents 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: lakeTopic
}

resource mlEvents 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: mlTopic
}

resource landed 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: lakeEvents
  name: 'landed'
  properties: {
    eventDeliverySchema: 'EventGridSchema'
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: '${app.id}/functions/event_storage'
        maxEventsPerBatch: 1
        preferredBatchSizeInKilobytes: 64
      }
    }
    filter: {
      includedEventTypes: [
        'Microsoft.Storage.BlobCreated'
        'Microsoft.Storage.BlobRenamed'
        'Microsoft.Storage.DirectoryRenamed'
      ]
      subjectBeginsWith: '${lake}${landing}'
      isSubjectCaseSensitive: true
      advancedFilters: [{ operatorType: 'StringIn', key: 'data.api', values: committed }]
    }
    retryPolicy: { maxDeliveryAttempts: 30, eventTimeToLiveInMinutes: 1440 }
    deadLetterWithResourceIdentity: {
      identity: { type: 'SystemAssigned' }
      deadLetterDestination: {
        endpointType: 'StorageBlob'
        properties: { resourceId: account.id, blobContainerName: 'deadletter' }
      }
    }
  }
}

resource manifests 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: lakeEvents
  name: 'manifests'
  properties: {
    eventDeliverySchema: 'EventGridSchema'
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: '${app.id}/functions/event_storage'
        maxEventsPerBatch: 1
        preferredBatchSizeInKilobytes: 64
      }
    }
    filter: {
      includedEventTypes: [
        'Microsoft.Storage.BlobCreated'
        'Microsoft.Storage.BlobRenamed'
      ]
      subjectBeginsWith: '${lake}features/'
      subjectEndsWith: '/manifest.json'
      isSubjectCaseSensitive: true
      advancedFilters: [{ operatorType: 'StringIn', key: 'data.api', values: committed }]
    }
    retryPolicy: { maxDeliveryAttempts: 30, eventTimeToLiveInMinutes: 1440 }
    deadLetterWithResourceIdentity: {
      identity: { type: 'SystemAssigned' }
      deadLetterDestination: {
        endpointType: 'StorageBlob'
        properties: { resourceId: account.id, blobContainerName: 'deadletter' }
      }
    }
  }
}

resource jobsAndModels 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: mlEvents
  name: 'jobs-and-models'
  properties: {
    eventDeliverySchema: 'EventGridSchema'
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: '${app.id}/functions/event_azureml'
        maxEventsPerBatch: 1
        preferredBatchSizeInKilobytes: 64
      }
    }
    filter: {
      includedEventTypes: [
        'Microsoft.MachineLearningServices.ModelRegistered'
        'Microsoft.MachineLearningServices.RunCompleted'
        'Microsoft.MachineLearningServices.RunStatusChanged'
      ]
    }
    retryPolicy: { maxDeliveryAttempts: 30, eventTimeToLiveInMinutes: 1440 }
    deadLetterWithResourceIdentity: {
      identity: { type: 'SystemAssigned' }
      deadLetterDestination: {
        endpointType: 'StorageBlob'
        properties: { resourceId: account.id, blobContainerName: 'deadletter' }
      }
    }
  }
}
