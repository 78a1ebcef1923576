variable "name" {
  description = "Name of the schedule."
  type        = string
}

variable "role_name" {
  description = "Name of the scheduler's role for it."
  type        = string
}

variable "group_name" {
  description = "Its group."
  type        = string
}

variable "group_arn" {
  description = "ARN of its group."
  type        = string
}

variable "expression" {
  description = "When it wakes the function."
  type        = string
}

variable "function_name" {
  description = "The function."
  type        = string
}

variable "function_arn" {
  description = "ARN of the function."
  type        = string
}

variable "dead_letter_queue_arn" {
  description = "Where ticks go that could not be handed over."
  type        = string
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the role, or `null`."
  type        = string
}

variable "account" {
  description = "The account."
  type        = string
}

variable "tags" {
  description = "Tags."
  type        = map(string)
}
