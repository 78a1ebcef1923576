variable "name" {
  description = "What every name begins with."
  type        = string
}

variable "environment" {
  description = "The deployment, a dimension of every metric of ours."
  type        = string
}

variable "region" {
  description = "The dashboard's region."
  type        = string
}

variable "functions" {
  description = "The functions by their short names."
  type        = list(string)
}

variable "function_names" {
  description = "The functions' names by their short ones."
  type        = map(string)
}

variable "log_group_names" {
  description = "The functions' log groups by their short names."
  type        = map(string)
}

variable "log_metric_namespace" {
  description = "Namespace of the metrics that are made of log lines."
  type        = string
}

variable "whole_pass_seconds" {
  description = "Functions that report `SinceWholePass`, and after how many seconds that is an alarm."
  type        = map(number)
}

variable "queue_name" {
  description = "The queue of jobs."
  type        = string
}

variable "dead_letters_name" {
  description = "Its dead-letter queue."
  type        = string
}

variable "lost_ticks_name" {
  description = "The schedules' dead-letter queue."
  type        = string
}

variable "api_id" {
  description = "The webhook's API."
  type        = string
}

variable "alarm_action_arns" {
  description = "Whom alarms tell."
  type        = list(string)
}

variable "tags" {
  description = "Tags."
  type        = map(string)
}
