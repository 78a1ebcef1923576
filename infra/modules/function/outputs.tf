output "name" {
  description = "Name of the function."
  value       = aws_lambda_function.this.function_name
}

output "arn" {
  description = "ARN of the function."
  value       = aws_lambda_function.this.arn
}

output "invoke_arn" {
  description = "ARN by which an API invokes it."
  value       = aws_lambda_function.this.invoke_arn
}

output "policy" {
  description = "The policy of its role, whole."
  value       = aws_iam_role_policy.this.policy
}

output "log_group_name" {
  description = "Its log group."
  value       = aws_cloudwatch_log_group.this.name
}
