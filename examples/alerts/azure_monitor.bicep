// Alerts of Azure Monitor on what the services send to Application Insights. README.md beside this file says of each what
// it means and what to do.
//
//   az deployment group create --resource-group RESOURCE_GROUP --template-file azure_monitor.bicep \
//     --parameters applicationInsightsId=ID actionGroupId=ID
//
// Every instance of a service shows the same figures of its tables, so queries take the largest of them and never the sum;
// what the loops count comes as what was added since the last time, and is summed.

@description('The resource id of Application Insights.')
param applicationInsightsId string

@description('The resource id of the action group that is told.')
param actionGroupId string

@description('Where the rules are kept: where Application Insights is.')
param location string = resourceGroup().location

@description('Put before the names of the rules.')
param prefix string = 'distributed-events'

// Severity: 1 for what can't wait, 3 for what is to be looked at in working hours.
var alerts = [
  {
    name: 'DeadEventsInInbox'
    description: 'Events have ended dead in an inbox.'
    severity: 3
    window: 'PT15M'
    query: 'customMetrics | where name == "distributed_events.inbox.rows" and customDimensions["distributed_events.state"] == "dead" | summarize figure = max(value) by service = cloud_RoleName, owner = tostring(customDimensions["messaging.destination.subscription.name"])'
    threshold: 0
  }
  {
    name: 'DeadEventsInOutbox'
    description: 'Events of an outbox can never be sent.'
    severity: 1
    window: 'PT15M'
    query: 'customMetrics | where name == "distributed_events.outbox.rows" and customDimensions["distributed_events.state"] == "dead" | summarize figure = max(value) by service = cloud_RoleName, owner = tostring(customDimensions["distributed_events.lane"])'
    threshold: 0
  }
  {
    name: 'OutboxStands'
    description: 'The oldest event of an outbox has waited for more than five minutes.'
    severity: 1
    window: 'PT5M'
    query: 'customMetrics | where name == "distributed_events.outbox.oldest_pending.age" | summarize figure = max(value) by service = cloud_RoleName, owner = tostring(customDimensions["distributed_events.lane"])'
    threshold: 300
  }
  {
    name: 'InboxStands'
    description: 'The oldest event of an inbox has waited for more than fifteen minutes.'
    severity: 1
    window: 'PT5M'
    query: 'customMetrics | where name == "distributed_events.inbox.oldest_pending.age" | summarize figure = max(value) by service = cloud_RoleName, owner = tostring(customDimensions["messaging.destination.subscription.name"])'
    threshold: 900
  }
  {
    name: 'PublishLags'
    description: 'Events reach the broker more than thirty seconds after their publish, on average.'
    severity: 3
    window: 'PT15M'
    query: 'customMetrics | where name == "distributed_events.publish.lag" | summarize figure = sum(valueSum) / sum(valueCount) by service = cloud_RoleName, owner = tostring(customDimensions["distributed_events.lane"])'
    threshold: 30
  }
  {
    name: 'EventsComeLate'
    description: 'Events are handled more than a minute after their publish, on average.'
    severity: 3
    window: 'PT15M'
    query: 'customMetrics | where name == "distributed_events.end_to_end.latency" | summarize figure = sum(valueSum) / sum(valueCount) by service = cloud_RoleName, owner = tostring(customDimensions["messaging.destination.subscription.name"])'
    threshold: 60
  }
  {
    name: 'HandlersFail'
    description: 'More than a fifth of the attempts at an event fail.'
    severity: 3
    window: 'PT15M'
    query: 'customMetrics | where name == "distributed_events.attempts" | extend outcome = tostring(customDimensions["distributed_events.outcome"]) | summarize figure = 100.0 * sumif(valueSum, outcome in ("retried", "dead")) / sum(valueSum) by service = cloud_RoleName, owner = tostring(customDimensions["distributed_events.event.name"])'
    threshold: 20
  }
  {
    name: 'HandlersSlow'
    description: 'Handlers of an event take more than a second, on average.'
    severity: 3
    window: 'PT15M'
    query: 'customMetrics | where name == "messaging.process.duration" | summarize figure = sum(valueSum) / sum(valueCount) by service = cloud_RoleName, owner = tostring(customDimensions["distributed_events.event.name"])'
    threshold: 1
  }
  {
    name: 'BrokerUnavailable'
    description: 'The broker can not be reached, or refuses.'
    severity: 1
    window: 'PT10M'
    query: 'customMetrics | where name == "distributed_events.incidents" and customDimensions["distributed_events.incident.kind"] in ("broker_unavailable", "topic_held") | extend owner = "broker" | summarize figure = sum(valueSum) by service = cloud_RoleName, owner'
    threshold: 5
  }
  {
    name: 'DatabaseTrouble'
    description: 'The database can not be reached, or refuses.'
    severity: 1
    window: 'PT10M'
    query: 'customMetrics | where name == "distributed_events.incidents" and customDimensions["distributed_events.incident.kind"] == "database_trouble" | extend owner = "database" | summarize figure = sum(valueSum) by service = cloud_RoleName, owner'
    threshold: 5
  }
  {
    name: 'BrokerThrottles'
    description: 'The namespace is too busy for what is asked of it.'
    severity: 3
    window: 'PT15M'
    query: 'customMetrics | where name == "distributed_events.broker.throttled" | summarize figure = sum(valueSum) by service = cloud_RoleName, owner = tostring(customDimensions["server.address"])'
    threshold: 3
  }
  {
    name: 'BrokerReconnects'
    description: 'Connections to the namespace do not last.'
    severity: 3
    window: 'PT15M'
    query: 'customMetrics | where name == "distributed_events.broker.reconnects" | summarize figure = sum(valueSum) by service = cloud_RoleName, owner = tostring(customDimensions["server.address"])'
    threshold: 5
  }
  {
    name: 'BrokerLocksLost'
    description: 'Locks on messages or sessions run out before the messages are stored.'
    severity: 3
    window: 'PT15M'
    query: 'customMetrics | where name == "distributed_events.broker.locks.lost" | summarize figure = sum(valueSum) by service = cloud_RoleName, owner = tostring(customDimensions["server.address"])'
    threshold: 10
  }
  {
    name: 'LeasesLost'
    description: 'Instances lose their work to each other.'
    severity: 3
    window: 'PT1H'
    query: 'customMetrics | where name == "distributed_events.leases.lost" | summarize figure = sum(valueSum) by service = cloud_RoleName, owner = tostring(customDimensions["distributed_events.table"])'
    threshold: 64
  }
  {
    name: 'NobodyHandles'
    description: 'Events wait for an instance that can handle them.'
    severity: 3
    window: 'PT30M'
    query: 'customMetrics | where name == "distributed_events.incidents" and customDimensions["distributed_events.incident.kind"] == "waiting_for_instance" | extend owner = "inbox" | summarize figure = sum(valueSum) by service = cloud_RoleName, owner'
    threshold: 0
  }
]

resource rules 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = [for alert in alerts: {
  name: '${prefix}-${alert.name}'
  location: location
  properties: {
    displayName: '${prefix}: ${alert.name}'
    description: alert.description
    severity: alert.severity
    enabled: true
    scopes: [
      applicationInsightsId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: alert.window
    criteria: {
      allOf: [
        {
          query: alert.query
          timeAggregation: 'Maximum'
          metricMeasureColumn: 'figure'
          dimensions: [
            {
              name: 'service'
              operator: 'Include'
              values: [
                '*'
              ]
            }
            {
              name: 'owner'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          operator: 'GreaterThan'
          threshold: alert.threshold
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    autoMitigate: true
    actions: {
      actionGroups: [
        actionGroupId
      ]
    }
  }
}]
