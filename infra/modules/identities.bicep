// Who calls: the function app, and the jobs on the compute cluster. Neither has a secret.
param location string
param tags object
param token string

resource app 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-landfall-app-${token}'
  location: location
  tags: tags
}

resource jobs 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-landfall-jobs-${token}'
  location: location
  tags: tags
}

output appId string = app.id
output appClient string = app.properties.clientId
output appPrincipal string = app.properties.principalId
output jobsId string = jobs.id
output jobsPrincipal string = jobs.properties.principalId
