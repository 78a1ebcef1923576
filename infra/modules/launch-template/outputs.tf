output "id" {
  description = "Id of the template."
  value       = aws_launch_template.this.id
}

output "arn" {
  description = "ARN of the template."
  value       = aws_launch_template.this.arn
}

output "version" {
  description = "Its latest version."
  value       = aws_launch_template.this.latest_version
}
