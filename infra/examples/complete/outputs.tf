output "runner_scaler" {
  description = "All that the module says."
  value       = module.runner_scaler
}
