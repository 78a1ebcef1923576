# What a person sees: alarms, each with a paragraph in infra/README.md ("Alarms"), a dashboard, saved queries.
#
# Metrics of a pass are lines of its log (embedded metric format, namespace `runner-scaler`); what only a log line says
# becomes a metric by a filter here.

locals {
  runbook = "Runbook: infra/README.md, \"Alarms\""

  log_metrics = {
    # A termination on the ground of age, whatever its fleet.
    HardAgeTerminations = {
      functions = ["scale-down", "orphan-sweeper"]
      pattern   = "{ $.InstancesTerminated > 0 && $.reason = \"hard_age\" }"
      value     = "$.InstancesTerminated"
      unit      = "Count"
    }
    # A job's event for an instance whose end we had decided on, and not because that job was over.
    JobsEndedByUs = {
      functions = ["webhook", "scale-down", "orphan-sweeper", "demand-reconciler"]
      pattern   = "{ $.reason = \"ended_by_us\" }"
      value     = "1"
      unit      = "Count"
    }
    # What a person should look at, once each.
    ErrorsLogged = {
      functions = var.functions
      pattern   = "{ $.level = \"ERROR\" }"
      value     = "1"
      unit      = "Count"
    }
    # For how long an owner's calls wait: GitHub asked for patience, or an answer took the last of the hourly budget. One
    # line for a whole wait, since nobody calls while it lasts: lines cannot be counted, the waits can be added up.
    PatienceAsked = {
      functions = ["scale-up", "scale-down", "orphan-sweeper", "demand-reconciler"]
      pattern   = "{ $.message = \"GitHub asks for patience*\" || $.message = \"GitHub's budget for*\" }"
      value     = "$.wait_ms"
      unit      = "Milliseconds"
    }
  }
  log_metric_filters = merge([for metric, filter in local.log_metrics : {
    for function in filter.functions : "${metric}-${function}" => merge(filter, { metric = metric, function = function })
  }]...)

  queue  = { namespace = "AWS/SQS", dimensions = { QueueName = var.queue_name } }
  minute = 60

  # Names say what is wrong; `at` what the metric must reach, `of` in how many of how many periods.
  alarms = merge(
    {
      oldest-message = {
        what       = "A job waits in the queue for 15 minutes."
        namespace  = local.queue.namespace
        dimensions = local.queue.dimensions
        metric     = "ApproximateAgeOfOldestMessage"
        statistic  = "Maximum"
        at         = 900
        period     = local.minute
        of         = [1, 1]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
      oldest-waiting-job = {
        what       = "A job waits for a runner for 30 minutes."
        namespace  = "runner-scaler"
        dimensions = { environment = var.environment, function = "demand-reconciler" }
        metric     = "OldestUnservedJob"
        statistic  = "Maximum"
        at         = 1800
        period     = 5 * local.minute
        of         = [1, 1]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
      dead-letters = {
        what       = "A job's message failed too often."
        namespace  = "AWS/SQS"
        dimensions = { QueueName = var.dead_letters_name }
        metric     = "ApproximateNumberOfMessagesVisible"
        statistic  = "Maximum"
        at         = 1
        period     = 5 * local.minute
        of         = [1, 1]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
      lost-ticks = {
        what       = "A schedule could not wake its function."
        namespace  = "AWS/SQS"
        dimensions = { QueueName = var.lost_ticks_name }
        metric     = "ApproximateNumberOfMessagesVisible"
        statistic  = "Maximum"
        at         = 1
        period     = 5 * local.minute
        of         = [1, 1]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
      deliveries-refused = {
        what       = "Deliveries are answered 5xx: GitHub does not send them again."
        namespace  = "AWS/ApiGateway"
        dimensions = { ApiId = var.api_id }
        metric     = "5xx"
        statistic  = "Sum"
        at         = 1
        period     = 5 * local.minute
        of         = [1, 1]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
      hard-age = {
        what       = "An instance was ended because it was older than any job can be."
        namespace  = var.log_metric_namespace
        dimensions = {}
        metric     = "HardAgeTerminations"
        statistic  = "Sum"
        at         = 1
        period     = 5 * local.minute
        of         = [1, 1]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
      ended-by-us = {
        what       = "A job ran on an instance that we ended. This must never happen."
        namespace  = var.log_metric_namespace
        dimensions = {}
        metric     = "JobsEndedByUs"
        statistic  = "Sum"
        at         = 1
        period     = 5 * local.minute
        of         = [1, 1]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
      errors-logged = {
        what       = "A function logged an error that a person should read."
        namespace  = var.log_metric_namespace
        dimensions = {}
        metric     = "ErrorsLogged"
        statistic  = "Sum"
        at         = 1
        period     = 5 * local.minute
        of         = [1, 1]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
      github-patience = {
        what       = "GitHub has made us wait for 15 minutes of an hour: the API's budget is used up."
        namespace  = var.log_metric_namespace
        dimensions = {}
        metric     = "PatienceAsked"
        statistic  = "Sum"
        at         = 900000
        period     = 60 * local.minute
        of         = [1, 1]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
      removal-forbidden = {
        what       = "The kill switch, or mode = observe, has kept orphan-sweeper from acting for 15 minutes."
        namespace  = "runner-scaler"
        dimensions = { environment = var.environment, function = "orphan-sweeper" }
        metric     = "ActsForbidden"
        statistic  = "Maximum"
        at         = 1
        period     = 5 * local.minute
        of         = [3, 3]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
    },
    # A function without an invocation reports nothing, and so does a schedule that is gone: nothing reported is the
    # worst of all.
    { for function, seconds in var.whole_pass_seconds : "no-whole-pass-${function}" => {
      what       = "${function} has not come to the end of a pass for ${seconds / 60} minutes."
      namespace  = "runner-scaler"
      dimensions = { environment = var.environment, function = function }
      metric     = "SinceWholePass"
      statistic  = "Minimum"
      at         = seconds
      period     = 5 * local.minute
      of         = [3, 3]
      missing    = "breaching"
      comparison = "GreaterThanOrEqualToThreshold"
    } },
    {
      no-pass-demand-reconciler = {
        what       = "demand-reconciler has reported no pass for 15 minutes."
        namespace  = "runner-scaler"
        dimensions = { environment = var.environment, function = "demand-reconciler" }
        metric     = "PassErrors"
        statistic  = "SampleCount"
        at         = 1
        period     = 5 * local.minute
        of         = [3, 3]
        missing    = "breaching"
        comparison = "LessThanThreshold"
      }
      # It has no `SinceWholePass`, but each of its passes says whether it was cut. Half an hour: a search of a large
      # organisation may take several passes.
      passes-cut-demand-reconciler = {
        what       = "Every pass of demand-reconciler has been cut by its deadline for 30 minutes."
        namespace  = "runner-scaler"
        dimensions = { environment = var.environment, function = "demand-reconciler" }
        metric     = "PassesCutByDeadline"
        statistic  = "Minimum"
        at         = 1
        period     = 5 * local.minute
        of         = [6, 6]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
      oldest-search = {
        what       = "No search for queued jobs has come to every repository for an hour."
        namespace  = "runner-scaler"
        dimensions = { environment = var.environment, function = "demand-reconciler" }
        metric     = "OldestSearch"
        statistic  = "Minimum"
        at         = 3600
        period     = 5 * local.minute
        of         = [3, 3]
        missing    = "notBreaching"
        comparison = "GreaterThanOrEqualToThreshold"
      }
    },
    { for function in var.functions : "errors-${function}" => {
      what       = "${function} fails."
      namespace  = "AWS/Lambda"
      dimensions = { FunctionName = var.function_names[function] }
      metric     = "Errors"
      statistic  = "Sum"
      at         = 1
      period     = 5 * local.minute
      of         = [3, 3]
      missing    = "notBreaching"
      comparison = "GreaterThanOrEqualToThreshold"
    } },
    { for function in var.functions : "throttles-${function}" => {
      what       = "${function} is kept from running: the account's concurrency is used up."
      namespace  = "AWS/Lambda"
      dimensions = { FunctionName = var.function_names[function] }
      metric     = "Throttles"
      statistic  = "Sum"
      at         = 1
      period     = 5 * local.minute
      of         = [2, 3]
      missing    = "notBreaching"
      comparison = "GreaterThanOrEqualToThreshold"
    } },
  )

  queries = {
    why-was-it-kept = {
      functions = ["scale-down", "orphan-sweeper"]
      query     = <<-QUERY
        fields @timestamp, function, instance_id, reason, vetoes, next_look, ground, message
        # Verdicts that keep are logged with log_level = "info,runner_scaler_core::removal=debug"; without, only what was done.
        | filter ispresent(instance_id)
        # | filter instance_id = "i-0123456789abcdef0"
        | sort @timestamp desc
        | limit 200
      QUERY
    }
    what-became-of-a-job = {
      functions = var.functions
      query     = <<-QUERY
        fields @timestamp, function, job_id, instance_id, message
        | filter ispresent(job_id)
        # | filter job_id = "12345678901"
        | sort @timestamp asc
        | limit 200
      QUERY
    }
    what-was-launched = {
      functions = ["scale-up", "demand-reconciler"]
      query     = <<-QUERY
        fields @timestamp, function, fleet, launch_token, market, instance_count, errors, error, message
        # What EC2 answered; a job's record names its launches by their token, an instance by its tag ghr:launch.
        | filter ispresent(launch_token)
        # | filter launch_token = "0123456789abcdef"
        | sort @timestamp desc
        | limit 200
      QUERY
    }
    what-was-removed-and-why = {
      functions = ["scale-down", "orphan-sweeper"]
      query     = <<-QUERY
        fields @timestamp, function, instance_id, runner_id, ground, message
        | filter ispresent(ground)
        # | filter ground = "HardAge"
        | sort @timestamp desc
        | limit 200
      QUERY
    }
    errors = {
      functions = var.functions
      query     = <<-QUERY
        fields @timestamp, function, owner, instance_id, job_id, message, error, class
        | filter level in ["ERROR", "WARN"]
        | sort @timestamp desc
        | limit 200
      QUERY
    }
    deliveries-refused = {
      functions = ["webhook"]
      query     = <<-QUERY
        fields @timestamp, delivery_id, verdict, reason, error, message
        | filter message like /refused|could not read|failed|cannot take/
        | sort @timestamp desc
        | limit 200
      QUERY
    }
  }

  # A widget: title, metrics as [namespace, name, dimension, value, …], statistic.
  widgets = [
    ["Jobs: oldest message, oldest waiting (s)", [
      ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", var.queue_name],
      ["runner-scaler", "OldestUnservedJob", "environment", var.environment, "function", "demand-reconciler"],
    ], "Maximum"],
    ["Jobs: in the queue, dead letters, lost ticks", [
      ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.queue_name],
      ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.dead_letters_name],
      ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.lost_ticks_name],
    ], "Maximum"],
    ["Deliveries: all, 4xx, 5xx", [for metric in ["Count", "4xx", "5xx"] : ["AWS/ApiGateway", metric, "ApiId", var.api_id]], "Sum"],
    ["Since the last whole pass (s)", [for function in keys(var.whole_pass_seconds) :
      ["runner-scaler", "SinceWholePass", "environment", var.environment, "function", function]
    ], "Maximum"],
    ["Functions: errors", [for function in var.functions : ["AWS/Lambda", "Errors", "FunctionName", var.function_names[function]]], "Sum"],
    ["Functions: duration p99 (ms)", [for function in var.functions : ["AWS/Lambda", "Duration", "FunctionName", var.function_names[function]]], "p99"],
    ["Must stay at zero", [for metric in ["JobsEndedByUs", "HardAgeTerminations"] : [var.log_metric_namespace, metric]], "Sum"],
    ["GitHub asks for patience (ms)", [[var.log_metric_namespace, "PatienceAsked"]], "Sum"],
    ["Errors logged", [[var.log_metric_namespace, "ErrorsLogged"]], "Sum"],
    ["A pass of orphan-sweeper", [for metric in ["PassErrors", "ActsForbidden", "ActsOverCap", "RecordsRebuilt", "RegistrationsUnowned", "InstancesUnowned", "ParametersRemoved"] :
      ["runner-scaler", metric, "environment", var.environment, "function", "orphan-sweeper"]
    ], "Maximum"],
    ["A pass of demand-reconciler", [for metric in ["PassErrors", "PassesCutByDeadline", "JobsSent", "JobsResent", "JobStartsFound", "DeliveriesRepeated", "RepositoriesUnreadable", "SearchRequestsCharged"] :
      ["runner-scaler", metric, "environment", var.environment, "function", "demand-reconciler"]
    ], "Maximum"],
  ]
  # Fleets and reasons come and go; a search finds whatever there is.
  searches = [for metric in ["InstancesKept", "InstancesTerminated", "RunnersDeregistered", "DrainsRequested"] : [
    "${metric} by fleet and reason",
    "SEARCH('{runner-scaler,environment,fleet,function,reason} MetricName=\"${metric}\" environment=\"${var.environment}\"', 'Sum', 300)",
  ]]
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each = local.log_metric_filters

  name           = each.key
  log_group_name = var.log_group_names[each.value.function]
  pattern        = each.value.pattern

  metric_transformation {
    namespace = var.log_metric_namespace
    name      = each.value.metric
    value     = each.value.value
    unit      = each.value.unit
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  # checkov:skip=CKV_AWS_319:actions are enabled; without alarm_action_arns there is nobody to tell
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.what} ${local.runbook}, ${each.key}."
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.at
  period              = each.value.period
  datapoints_to_alarm = each.value.of[0]
  evaluation_periods  = each.value.of[1]
  treat_missing_data  = each.value.missing
  alarm_actions       = var.alarm_action_arns
  ok_actions          = var.alarm_action_arns
  tags                = var.tags
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = concat(
      [{
        type = "alarm", x = 0, y = 0, width = 24, height = 4
        properties = {
          title  = "Alarms (${local.runbook})"
          alarms = sort([for alarm in aws_cloudwatch_metric_alarm.this : alarm.arn])
        }
      }],
      [for index, widget in local.widgets : {
        type = "metric", x = index % 3 * 8, y = 4 + floor(index / 3) * 6, width = 8, height = 6
        properties = {
          title   = widget[0], region = var.region, period = 300, view = "timeSeries"
          metrics = widget[1], stat = widget[2]
        }
      }],
      [for index, search in local.searches : {
        type = "metric", x = index % 2 * 12, y = 28 + floor(index / 2) * 6, width = 12, height = 6
        properties = {
          title   = search[0], region = var.region, period = 300, view = "timeSeries", stacked = true
          metrics = [[{ expression = search[1], id = "e${index}" }]]
        }
      }],
    )
  })
}

resource "aws_cloudwatch_query_definition" "this" {
  for_each = local.queries

  name            = "${var.name}/${each.key}"
  log_group_names = [for function in each.value.functions : var.log_group_names[function]]
  query_string    = each.value.query
}
