output "policy" {
  description = "The policy of the scheduler's role."
  value       = aws_iam_role_policy.this.policy
}
