output "webhook_url" {
  description = "Where the GitHub App sends its events."
  value       = "${aws_apigatewayv2_api.this.api_endpoint}/webhook"
}

output "github_app_path" {
  description = "SSM path below which `app-id`, `private-key` and `webhook-secret` are expected."
  value       = local.parameters.app
}

output "kill_switch_parameter" {
  description = "SSM parameter that stops removal when it says anything but `enabled`."
  value       = aws_ssm_parameter.kill_switch.name
}

output "config_parameter" {
  description = "SSM parameter of the configuration document."
  value       = aws_ssm_parameter.config.name
}

output "configuration" {
  description = "The configuration document as the functions read it."
  value       = local.document
}

output "ledger_table" {
  description = "Name of the ledger."
  value       = module.ledger.table_name
}

output "vital_signs_table" {
  description = "Name of the table of vital signs."
  value       = module.ledger.vital_signs_table_name
}

output "scale_up_queue_url" {
  description = "URL of the queue of jobs."
  value       = module.queue.url
}

output "dead_letters_url" {
  description = "URL of the queue of jobs whose message failed too often."
  value       = module.queue.dead_letters_url
}

output "function_names" {
  description = "The functions' names by their short ones."
  value       = { for name, function in module.function : name => function.name }
}

output "instance_role_arn" {
  description = "Role of the instances."
  value       = aws_iam_role.instance.arn
}

output "security_group_id" {
  description = "Security group of the instances."
  value       = aws_security_group.instance.id
}

output "dashboard_name" {
  description = "The CloudWatch dashboard."
  value       = module.observability.dashboard_name
}

output "alarm_names" {
  description = "The alarms' names."
  value       = module.observability.alarm_names
}

output "policies" {
  description = "Every policy that was rendered, by its role: for reviews, and for the tests that evaluate them."
  value = merge(
    { for name, function in module.function : name => function.policy },
    { for name, schedule in module.schedule : "${name}-schedule" => schedule.policy },
    { instance = aws_iam_role_policy.instance.policy, queue = module.queue.policy },
  )
}
