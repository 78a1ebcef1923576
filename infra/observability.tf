module "observability" {
  source = "./modules/observability"

  name                 = local.name
  environment          = var.environment
  region               = local.region
  functions            = keys(local.functions)
  function_names       = { for name, function in module.function : name => function.name }
  log_group_names      = { for name, function in module.function : name => function.log_group_name }
  log_metric_namespace = "runner-scaler/${var.environment}"
  queue_name           = module.queue.name
  dead_letters_name    = module.queue.dead_letters_name
  lost_ticks_name      = aws_sqs_queue.lost_ticks.name
  api_id               = aws_apigatewayv2_api.this.id
  alarm_action_arns    = var.alarm_action_arns
  tags                 = local.tags

  # Fifteen and six times as long as between two ticks: one slow pass is no alarm, and what is late waits for minutes.
  whole_pass_seconds = {
    scale-down     = 900
    orphan-sweeper = 1800
  }
}
