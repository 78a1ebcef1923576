# How a fleet's instances are made. Types and subnets are the launch's to say; all else is here, and its versions are
# pinned by number in the configuration document.

resource "aws_launch_template" "this" {
  # checkov:skip=CKV_AWS_88:public_ip is false unless a fleet asks for it
  name                                 = var.name
  description                          = "Runners of ${var.name}"
  image_id                             = var.image_id
  instance_initiated_shutdown_behavior = "terminate"
  ebs_optimized                        = true
  user_data                            = base64gzip(var.user_data)
  tags                                 = var.tags

  iam_instance_profile {
    arn = var.instance_profile_arn
  }

  # One hop: a container on the instance gets no credentials of it. Tags: the drain travels in them.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled"
  }

  # Said outright: a subnet may give public addresses to all that do not.
  network_interfaces {
    device_index                = 0
    associate_public_ip_address = var.public_ip
    security_groups             = [var.security_group_id]
  }

  block_device_mappings {
    device_name = var.root_device

    ebs {
      volume_size           = var.disk_gib
      volume_type           = "gp3"
      encrypted             = true
      kms_key_id            = var.kms_key_arn
      delete_on_termination = true
    }
  }

  monitoring {
    enabled = false
  }

  dynamic "tag_specifications" {
    for_each = toset(["volume", "network-interface"])
    content {
      resource_type = tag_specifications.value
      tags          = var.tags
    }
  }
}
