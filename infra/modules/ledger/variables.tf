variable "name" {
  description = "What the tables' names begin with."
  type        = string
}

variable "kms_key_arn" {
  description = "Customer managed key, or `null`."
  type        = string
}

variable "tags" {
  description = "Tags."
  type        = map(string)
}
