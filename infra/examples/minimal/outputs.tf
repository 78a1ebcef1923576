output "webhook_url" {
  description = "For the GitHub App."
  value       = module.runner_scaler.webhook_url
}

output "github_app_path" {
  description = "Where the App's secrets are expected."
  value       = module.runner_scaler.github_app_path
}

output "region" {
  description = "Where all of it runs, and the App's secrets go."
  value       = var.region
}
