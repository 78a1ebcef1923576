variable "name" {
  description = "Name of the queue."
  type        = string
}

variable "arn" {
  description = "ARN that the queue will have: its policy names it."
  type        = string
}

variable "consumer_timeout_seconds" {
  description = "Time limit of the function that takes the messages."
  type        = number
}

variable "consumer_arn" {
  description = "That function."
  type        = string
}

variable "batch_size" {
  description = "Messages an invocation, at most."
  type        = number
}

variable "batching_window_seconds" {
  description = "How long Lambda waits for a batch to fill."
  type        = number

  validation {
    condition     = var.batching_window_seconds >= 1 || var.batch_size <= 10
    error_message = "batching_window_seconds must be 1 or more where batch_size is above 10: Lambda refuses the mapping otherwise."
  }
}

variable "maximum_concurrency" {
  description = "Invocations at once, at most."
  type        = number
}

variable "sender_role_arns" {
  description = "Roles that may send."
  type        = list(string)
}

variable "kms_key_arn" {
  description = "Customer managed key, or `null`."
  type        = string
}

variable "tags" {
  description = "Tags."
  type        = map(string)
}
