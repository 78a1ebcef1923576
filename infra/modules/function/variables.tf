variable "name" {
  description = "Name of the function, its role and its log group."
  type        = string
}

variable "arn" {
  description = "ARN that the function will have: its policy names it."
  type        = string
}

variable "package" {
  description = "The deployment package, a zip with `bootstrap`."
  type        = string
}

variable "architecture" {
  description = "`arm64` or `x86_64`."
  type        = string
}

variable "timeout_seconds" {
  description = "Lambda's time limit."
  type        = number
}

variable "variables" {
  description = "Environment of the function."
  type        = map(string)
}

variable "policy" {
  description = "What it may do besides writing its logs: a JSON list of statements."
  type        = string
}

variable "network" {
  description = "Subnets and security groups, or `null`."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
}

variable "kms_key_arn" {
  description = "Customer managed key, or `null`."
  type        = string
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the role, or `null`."
  type        = string
}

variable "log_retention_days" {
  description = "How long its logs are kept."
  type        = number
}

variable "tags" {
  description = "Tags."
  type        = map(string)
}
