variable "name" {
  description = "Name of the template."
  type        = string
}

variable "image_id" {
  description = "The image."
  type        = string
}

variable "root_device" {
  description = "Name of the image's root device."
  type        = string
}

variable "disk_gib" {
  description = "Size of the root volume."
  type        = number
}

variable "public_ip" {
  description = "Whether instances get a public address."
  type        = bool
}

variable "instance_profile_arn" {
  description = "The instances' profile."
  type        = string
}

variable "security_group_id" {
  description = "The instances' security group."
  type        = string
}

variable "user_data" {
  description = "What runs at boot; holds no secret and nothing that differs between launches."
  type        = string

  validation {
    condition     = length(base64gzip(var.user_data)) <= 21844
    error_message = "user_data must be at most 16384 bytes when compressed, EC2's limit: shorten the fleet's supervisor_settings."
  }
}

variable "kms_key_arn" {
  description = "Customer managed key, or `null`."
  type        = string
}

variable "tags" {
  description = "Tags of the template and of volumes and network interfaces; an instance's are the launch's."
  type        = map(string)
}
