# Who may do what: one list of statements a function, one for the instances, each statement with its reason. No managed
# policy is attached to anything. `tests/policies` evaluates what is rendered here against requests that must pass and
# requests that must not, and shows of every condition that some request would pass without it.
#
# A resource that is named by a pattern is held by a condition; a star stands only where AWS takes no resource.

locals {
  arn = {
    instances  = "arn:${local.partition}:ec2:${local.region}:${local.account}:instance/*"
    queue      = "arn:${local.partition}:sqs:${local.region}:${local.account}:${local.name}-scale-up"
    lost_ticks = "arn:${local.partition}:sqs:${local.region}:${local.account}:${local.name}-lost-ticks"
    ledger     = "arn:${local.partition}:dynamodb:${local.region}:${local.account}:table/${local.name}-ledger"
    vital      = "arn:${local.partition}:dynamodb:${local.region}:${local.account}:table/${local.name}-vital-signs"
    parameters = "arn:${local.partition}:ssm:${local.region}:${local.account}:parameter"
    role       = "arn:${local.partition}:iam::${local.account}:role/${local.name}-instance"
    profile    = "arn:${local.partition}:iam::${local.account}:instance-profile/${local.name}-instance"
    templates  = [for template in module.launch_template : template.arn]
    # Where fleets' instances write what their runners say, if any fleet says so.
    instance_logs = [for group in distinct(compact([for fleet in local.fleets : lookup(fleet.supervisor_settings, "LOG_GROUP", "")])) :
      "arn:${local.partition}:logs:${local.region}:${local.account}:log-group:${group}:log-stream:i-*"
    ]
    subnets = [for id in distinct(flatten([for fleet in local.fleets : fleet.subnet_ids])) :
      "arn:${local.partition}:ec2:${local.region}:${local.account}:subnet/${id}"
    ]
  }

  # What makes an instance ours, as far as IAM can see. The tag was set at launch, and nobody of ours may set it later;
  # the profile can only be given by who may pass our role. One without the other is somebody else's: a tag can be
  # written by whoever may tag in this account, a profile can be borrowed. The launch template would say the same, but
  # that of a fleet which left the configuration is gone, and its instances must still be ended.
  ours = {
    StringEquals = { "aws:ResourceTag/ghr:environment" = var.environment }
    ArnEquals    = { "ec2:InstanceProfile" = local.arn.profile }
  }

  # Pieces that several functions have.
  may = {
    # Policy: what is wanted, and nothing secret.
    read_configuration = {
      Sid      = "ReadConfiguration"
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = "${local.arn.parameters}${local.parameters.config}"
    }
    # Tokens of the App are made by whoever calls GitHub; the webhook's secret is not among these.
    read_app_key = {
      Sid      = "ReadAppKey"
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = [for name in ["app-id", "private-key"] : "${local.arn.parameters}${local.parameters.app}/${name}"]
    }
    # Unreadable, it forbids everything: that is the safe side.
    read_kill_switch = {
      Sid      = "ReadKillSwitch"
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = "${local.arn.parameters}${local.parameters.kill_switch}"
    }
    # Compare-and-swap is PutItem with a condition, alone or in a transaction; no function deletes a record (TTL does).
    use_ledger = {
      Sid      = "UseLedger"
      Effect   = "Allow"
      Action   = ["dynamodb:BatchGetItem", "dynamodb:PutItem"]
      Resource = local.arn.ledger
    }
    # The sparse index of what somebody still has to look at. No function may scan.
    query_open_records = {
      Sid      = "QueryOpenRecords"
      Effect   = "Allow"
      Action   = "dynamodb:Query"
      Resource = "${local.arn.ledger}/index/open"
    }
    # Reading only: an instance's sign of life is for the instance to write.
    read_vital_signs = {
      Sid      = "ReadVitalSigns"
      Effect   = "Allow"
      Action   = "dynamodb:BatchGetItem"
      Resource = local.arn.vital
    }
    # Takes no resource (service authorization reference of EC2). It shows, and changes nothing.
    list_instances = {
      Sid      = "ListInstances"
      Effect   = "Allow"
      Action   = "ec2:DescribeInstances"
      Resource = "*"
    }
    send_jobs = {
      Sid      = "SendJobs"
      Effect   = "Allow"
      Action   = "sqs:SendMessage"
      Resource = local.arn.queue
    }
    # One instance a call, and only ours. Only two functions have this.
    terminate = {
      Sid       = "TerminateOurs"
      Effect    = "Allow"
      Action    = "ec2:TerminateInstances"
      Resource  = local.arn.instances
      Condition = local.ours
    }
    # Of an instance that is gone.
    remove_jit_configurations = {
      Sid      = "RemoveJitConfigurations"
      Effect   = "Allow"
      Action   = "ssm:DeleteParameter"
      Resource = "${local.arn.parameters}${local.parameters.runners}/*"
    }
  }

  # With a key of the deployment's own: only for values that SQS, DynamoDB, SSM and Lambda hand over, never by itself.
  use_key = var.kms_key_arn == null ? [] : [{
    Sid       = "UseKeyThroughServices"
    Effect    = "Allow"
    Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
    Resource  = var.kms_key_arn
    Condition = { StringEquals = { "kms:ViaService" = [for service in ["sqs", "dynamodb", "ssm", "lambda"] : "${service}.${local.region}.amazonaws.com"] } }
  }]

  # Encrypted volumes are made in scale-up's name: EC2 gets a grant of the key, and nobody else may.
  use_key_for_volumes = [for statement in [
    {
      Sid       = "EncryptVolumes"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
      Resource  = var.kms_key_arn
      Condition = { StringEquals = { "kms:ViaService" = "ec2.${local.region}.amazonaws.com" } }
    },
    {
      Sid       = "LetVolumesUseKey"
      Effect    = "Allow"
      Action    = "kms:CreateGrant"
      Resource  = var.kms_key_arn
      Condition = { Bool = { "kms:GrantIsForAWSResource" = "true" } }
    },
  ] : statement if var.kms_key_arn != null]

  # Launching an instance and handing it its configuration: for jobs (scale-up) and for pools (demand-reconciler), which
  # no job's message asks for. Neither can end one.
  launch = concat([
    # A fleet can only be made of launch templates; these are ours.
    {
      Sid      = "CreateFleetOfOurTemplates"
      Effect   = "Allow"
      Action   = ["ec2:CreateFleet", "ec2:RunInstances"]
      Resource = local.arn.templates
    },
    {
      Sid      = "CreateFleet"
      Effect   = "Allow"
      Action   = "ec2:CreateFleet"
      Resource = "arn:${local.partition}:ec2:${local.region}:${local.account}:fleet/*"
    },
    # Nothing of a launch comes from anything but our templates: also where no template is named, for then there is no
    # such key. A deny, because the list of templates is long, and a role's policies have 10,240 characters: so it stands
    # once, and not in every statement below, which it binds.
    {
      Sid       = "LaunchFromOurTemplatesOnly"
      Effect    = "Deny"
      Action    = ["ec2:CreateFleet", "ec2:RunInstances"]
      Resource  = [for kind in [":image", "*:instance", "*:network-interface", "*:security-group", "*:spot-instances-request", "*:subnet", "*:volume"] : "arn:${local.partition}:ec2:*:${kind}/*"]
      Condition = { ArnNotEquals = { "ec2:LaunchTemplate" = local.arn.templates } }
    },
    # An instance bears this deployment's name from its first moment. CreateFleet launches by RunInstances in our name.
    {
      Sid       = "LaunchTaggedInstances"
      Effect    = "Allow"
      Action    = ["ec2:CreateFleet", "ec2:RunInstances"]
      Resource  = local.arn.instances
      Condition = { StringEquals = { "aws:RequestTag/ghr:environment" = var.environment } }
    },
    # The image that the template names and no other, also of an earlier version: a launch is repeated as it was.
    {
      Sid       = "LaunchTheTemplatesImage"
      Effect    = "Allow"
      Action    = ["ec2:CreateFleet", "ec2:RunInstances"]
      Resource  = "arn:${local.partition}:ec2:${local.region}::image/*"
      Condition = { Bool = { "ec2:IsLaunchTemplateResource" = "true" } }
    },
    # What comes with an instance; of the security groups, ours alone. The launch says in which of the fleets' subnets.
    {
      Sid    = "LaunchWithOurs"
      Effect = "Allow"
      Action = ["ec2:CreateFleet", "ec2:RunInstances"]
      Resource = concat([
        "arn:${local.partition}:ec2:${local.region}:${local.account}:network-interface/*",
        "arn:${local.partition}:ec2:${local.region}:${local.account}:security-group/${aws_security_group.instance.id}",
        "arn:${local.partition}:ec2:${local.region}:${local.account}:volume/*",
        "arn:${local.partition}:ec2:${local.region}:${local.account}:spot-instances-request/*",
      ], local.arn.subnets)
    },
    # Tags are set by a launch and by nothing else: whoever could tag a running instance could make it ours.
    {
      Sid    = "TagAtLaunch"
      Effect = "Allow"
      Action = "ec2:CreateTags"
      Resource = [for kind in ["fleet", "instance", "network-interface", "spot-instances-request", "volume"] :
        "arn:${local.partition}:ec2:${local.region}:${local.account}:${kind}/*"
      ]
      Condition = {
        StringEquals = {
          "ec2:CreateAction"               = ["CreateFleet", "RunInstances"]
          "aws:RequestTag/ghr:environment" = var.environment
        }
      }
    },
    # One role, to EC2 alone; it can do next to nothing (below).
    {
      Sid       = "PassInstanceRole"
      Effect    = "Allow"
      Action    = "iam:PassRole"
      Resource  = local.arn.role
      Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
    },
    # A configuration for one instance, once: `ssm:Overwrite` keeps one that was handed over from being replaced.
    {
      Sid       = "HandOverJitConfigurations"
      Effect    = "Allow"
      Action    = "ssm:PutParameter"
      Resource  = "${local.arn.parameters}${local.parameters.runners}/*"
      Condition = { StringEquals = { "ssm:Overwrite" = "false", "aws:RequestTag/ghr:environment" = var.environment } }
    },
    # PutParameter with tags asks for this. The tags say whose the parameter is; no others may be set.
    {
      Sid      = "SayWhoseTheyAre"
      Effect   = "Allow"
      Action   = "ssm:AddTagsToResource"
      Resource = "${local.arn.parameters}${local.parameters.runners}/*"
      Condition = {
        StringEquals                = { "aws:RequestTag/ghr:environment" = var.environment }
        "ForAllValues:StringEquals" = { "aws:TagKeys" = ["ghr:environment", "ghr:instance-id", "ghr:instance"] }
      }
    },
  ], local.use_key_for_volumes)

  statements = {
    # The only function that strangers reach has the least: it can queue a job and write down an event.
    webhook = [
      local.may.read_configuration,
      {
        Sid      = "ReadWebhookSecret"
        Effect   = "Allow"
        Action   = "ssm:GetParameter"
        Resource = "${local.arn.parameters}${local.parameters.app}/webhook-secret"
      },
      local.may.send_jobs,
      local.may.use_ledger,
    ]

    # Takes jobs and launches. It can end nothing, and it cannot read what it handed to an instance.
    scale-up = concat([
      local.may.read_configuration,
      local.may.read_app_key,
      local.may.use_ledger,
      local.may.query_open_records,
      local.may.list_instances,
      {
        Sid      = "TakeJobs"
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
        Resource = local.arn.queue
      },
    ], local.launch)

    # The only function that asks an instance to go, and one of two that may end one.
    scale-down = [
      local.may.read_configuration,
      local.may.read_app_key,
      local.may.read_kill_switch,
      local.may.use_ledger,
      local.may.query_open_records,
      local.may.read_vital_signs,
      local.may.list_instances,
      # The one tag that is ever set on a running instance. `Null` refuses a call without any tag key, which
      # `ForAllValues` alone would let pass.
      {
        Sid      = "AskToDrain"
        Effect   = "Allow"
        Action   = "ec2:CreateTags"
        Resource = local.arn.instances
        Condition = merge(local.ours, {
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["ghr:drain"] }
          Null                        = { "aws:TagKeys" = "false" }
        })
      },
      local.may.terminate,
      local.may.remove_jit_configurations,
    ]

    orphan-sweeper = [
      local.may.read_configuration,
      local.may.read_app_key,
      local.may.read_kill_switch,
      local.may.use_ledger,
      local.may.query_open_records,
      local.may.read_vital_signs,
      local.may.list_instances,
      local.may.terminate,
      local.may.remove_jit_configurations,
      # Takes no resource, and shows names and times but no value.
      {
        Sid      = "ListJitConfigurations"
        Effect   = "Allow"
        Action   = "ssm:DescribeParameters"
        Resource = "*"
      },
    ]

    # Finds jobs and sends them to the queue, and keeps pools filled. It can end nothing.
    demand-reconciler = concat([
      local.may.read_configuration,
      local.may.read_app_key,
      local.may.use_ledger,
      local.may.query_open_records,
      local.may.read_vital_signs,
      local.may.list_instances,
      local.may.send_jobs,
    ], local.launch)
  }

  function_policies = { for name, statements in local.statements : name => jsonencode(concat(statements, local.use_key)) }

  # What an instance may do. Whatever runs there may be a job of anybody who can push a branch.
  instance_policy = {
    Version = "2012-10-17"
    Statement = concat([
      # Its own configuration and no other's: the tag bears the ARN of the instance it was made for, set by scale-up, and
      # `ec2:SourceInstanceARN` is in a request only where the credentials came from that instance's metadata.
      {
        Sid       = "TakeOwnJitConfiguration"
        Effect    = "Allow"
        Action    = ["ssm:GetParameter", "ssm:DeleteParameter"]
        Resource  = "${local.arn.parameters}${local.parameters.runners}/*"
        Condition = { StringEquals = { "aws:ResourceTag/ghr:instance" = "$${ec2:SourceInstanceARN}" } }
      },
      # Its own sign of life and no other's: `aws:userid` of an instance is its role's id and its own id. `Null` refuses a
      # call that names no key, which `ForAllValues` alone would let pass. It can only veto.
      {
        Sid      = "GiveOwnVitalSign"
        Effect   = "Allow"
        Action   = "dynamodb:PutItem"
        Resource = local.arn.vital
        Condition = {
          "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = ["$${aws:userid}"] }
          Null                        = { "dynamodb:LeadingKeys" = "false" }
        }
      },
      ], [for statement in [
        # What its runner says, into a group that a fleet names: streams that are called like instances, for no variable of
        # IAM is an instance's id alone (`aws:userid` and `ec2:SourceInstanceARN` end with it, and streams have no tags).
        # Whoever has the role could write into another instance's stream, and reads none. BLOCK_METADATA keeps jobs from it.
        {
          Sid      = "WriteRunnerLogs"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = local.arn.instance_logs
        },
    ] : statement if length(local.arn.instance_logs) > 0])
  }
}

resource "aws_iam_role" "instance" {
  name                 = "${local.name}-instance"
  description          = "Role of the runners of ${local.name}"
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "instance" {
  name   = "all"
  role   = aws_iam_role.instance.id
  policy = jsonencode(local.instance_policy)
}

resource "aws_iam_instance_profile" "instance" {
  name = "${local.name}-instance"
  role = aws_iam_role.instance.name
  tags = local.tags
}
