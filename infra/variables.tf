# What a deployment needs to be told. `tests/documents.py` counts: at most 25, at most four without a default.

variable "environment" {
  description = "Name of the deployment, in the name of all that it makes and in the tag `ghr:environment`: lower-case letters, digits and hyphens, at most 32. Two deployments in one account never touch each other's instances."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]{1,32}$", var.environment))
    error_message = "environment must be 1 to 32 lower-case letters, digits and hyphens: the functions refuse another name."
  }
}

variable "subnet_ids" {
  description = "Subnets in which instances are launched, where a fleet names none of its own. These and the fleets' own must be of one VPC, and those of one fleet of an availability zone each; both are checked. They need a way out (NAT gateway, or `public_ip` on the fleet)."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0 && alltrue([for id in var.subnet_ids : startswith(id, "subnet-")])
    error_message = "subnet_ids must name at least one subnet, each as subnet-…: EC2 launches nowhere else."
  }

  validation {
    condition     = length(distinct(var.subnet_ids)) == length(var.subnet_ids)
    error_message = "subnet_ids must name each subnet once: EC2 refuses every launch with duplicate pools. Remove the second."
  }
}

variable "supervisor" {
  description = "Where instances fetch the supervisor that `infra/package` built, by architecture (`arm64`, `x86_64`): an https URL that they reach without credentials, and the file's SHA-256."
  type = map(object({
    url    = string
    sha256 = string
  }))

  validation {
    condition     = length(var.supervisor) > 0 && alltrue([for architecture in keys(var.supervisor) : contains(["arm64", "x86_64"], architecture)])
    error_message = "supervisor must have an entry for arm64, x86_64 or both, and no other."
  }

  validation {
    condition     = alltrue([for binary in values(var.supervisor) : startswith(binary.url, "https://") && can(regex("^[0-9a-f]{64}$", binary.sha256))])
    error_message = "supervisor must give each url as https://… and each sha256 as 64 lower-case hexadecimal digits (sha256sum FILE): what it names runs as root on every instance."
  }
}

variable "fleets" {
  description = "The fleets, first match wins among equally specific ones. Required of each: `name`, `labels`, `runner_count_max`, `instance_types` (all of one architecture). See the table of a fleet's settings in infra/README.md."
  type = list(object({
    name             = string
    labels           = list(string)
    runner_count_max = number
    instance_types   = list(string)

    market             = optional(string, "spot")
    fallback           = optional(string)
    matching           = optional(string, "exact")
    registration       = optional(string, "organization")
    runner_group_id    = optional(number, 1)
    runner_name_prefix = optional(string, "runner-")
    label_overrides = optional(object({
      instance_types = optional(list(string), [])
      markets        = optional(list(string), [])
    }))

    ami_id            = optional(string)
    ami_ssm_parameter = optional(string)
    root_device       = optional(string, "/dev/xvda")
    disk_gib          = optional(number, 30)
    subnet_ids        = optional(list(string), [])
    public_ip         = optional(bool, false)

    idle = optional(list(object({
      cron      = string
      time_zone = optional(string, "UTC")
      count     = number
    })), [])
    idle_owner = optional(string)
    eviction   = optional(string, "oldest_first")

    timers = optional(object({
      idle_window_seconds     = optional(number)
      quarantine_seconds      = optional(number)
      completed_grace_seconds = optional(number)
      boot_grace_seconds      = optional(number)
      gone_grace_seconds      = optional(number)
      idle_maximum_seconds    = optional(number)
      drain_answer_seconds    = optional(number)
      minimum_running_seconds = optional(number)
      removal_lease_seconds   = optional(number)
    }), {})

    supervisor_settings = optional(map(string), {})
  }))

  validation {
    condition     = length(var.fleets) > 0 && length(distinct(var.fleets[*].name)) == length(var.fleets)
    error_message = "fleets must name at least one fleet, each under a name of its own: a record says only the name."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : can(regex("^[A-Za-z0-9_-]{1,64}$", fleet.name))])
    error_message = "fleets[].name must be 1 to 64 letters, digits, hyphens and underscores."
  }

  validation {
    condition = alltrue([for fleet in var.fleets :
      length(fleet.labels) > 0 && length(fleet.labels) <= 98 &&
      # Bytes: unpadded, Base64 makes 342 characters of 256.
      alltrue([for label in fleet.labels : length(label) > 0 && length(replace(base64encode(label), "=", "")) <= 342])
    ])
    error_message = "fleets[].labels must be 1 to 98 labels of 1 to 256 bytes: GitHub takes 100, and a job's overrides become two more."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : length(distinct([for label in fleet.labels : lower(label)])) == length(fleet.labels)])
    error_message = "fleets[].labels must each be named once: GitHub compares labels without case. Remove the second."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : fleet.runner_count_max >= 1 && fleet.runner_count_max <= 4294967295 && floor(fleet.runner_count_max) == fleet.runner_count_max])
    error_message = "fleets[].runner_count_max must be a whole number from 1 to 4294967295: 0 launches nothing; remove the fleet, or set mode to retire."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : length(fleet.instance_types) > 0 && alltrue([for type in fleet.instance_types : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", type))])])
    error_message = "fleets[].instance_types must name at least one instance type, for example m7g.large."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : length(distinct(fleet.instance_types)) == length(fleet.instance_types)])
    error_message = "fleets[].instance_types must name each type once: EC2 refuses every launch with duplicate pools. Remove the second."
  }

  # The list is closed: since 2017 every new family is on Nitro. Bare metal (i3.metal) is, too.
  validation {
    condition = alltrue(flatten([for fleet in var.fleets : [for type in fleet.instance_types :
      !contains(["t1", "t2", "m1", "m2", "m3", "m4", "c1", "c3", "c4", "r3", "r4", "x1", "x1e", "i2", "i3", "d2", "h1", "hs1", "f1", "g2", "g3", "g3s", "p2", "p3", "cc2", "cr1"], split(".", type)[0]) || endswith(type, ".metal")
    ]]))
    error_message = "fleets[].instance_types must be on the Nitro System (for example m7g, c7i, t3): on others an instance sees a changed tag only after a stop, so that it would never hear of a drain."
  }

  validation {
    condition = alltrue([for fleet in var.fleets :
      length(distinct([for type in fleet.instance_types : can(regex("^([a-z]+[0-9]+[a-z]*g[a-z]*|a1)\\.", type))])) <= 1
    ])
    error_message = "fleets[].instance_types must be of one architecture in a fleet: Graviton types (m7g, t4g, …) need another image than the others. Make two fleets."
  }

  validation {
    condition = alltrue([for fleet in var.fleets :
      contains(keys(var.supervisor), can(regex("^([a-z]+[0-9]+[a-z]*g[a-z]*|a1)\\.", try(fleet.instance_types[0], ""))) ? "arm64" : "x86_64")
    ])
    error_message = "fleets[].instance_types needs an architecture that supervisor has no entry for: add supervisor.arm64 for Graviton types (m7g, t4g, …), supervisor.x86_64 for all others."
  }

  # The same three of the types that a job may ask for by label.
  validation {
    condition = alltrue(flatten([for fleet in var.fleets : [for type in try(fleet.label_overrides.instance_types, []) :
      can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", type)) && length(type) <= 64
    ]]))
    error_message = "fleets[].label_overrides.instance_types must be instance types, for example c7i.2xlarge."
  }

  validation {
    condition = alltrue(flatten([for fleet in var.fleets : [for type in try(fleet.label_overrides.instance_types, []) :
      !contains(["t1", "t2", "m1", "m2", "m3", "m4", "c1", "c3", "c4", "r3", "r4", "x1", "x1e", "i2", "i3", "d2", "h1", "hs1", "f1", "g2", "g3", "g3s", "p2", "p3", "cc2", "cr1"], split(".", type)[0]) || endswith(type, ".metal")
    ]]))
    error_message = "fleets[].label_overrides.instance_types must be on the Nitro System (for example m7g, c7i, t3): on others an instance would never hear of a drain."
  }

  validation {
    condition = alltrue(flatten([for fleet in var.fleets : [for type in try(fleet.label_overrides.instance_types, []) :
      can(regex("^([a-z]+[0-9]+[a-z]*g[a-z]*|a1)\\.", type)) == can(regex("^([a-z]+[0-9]+[a-z]*g[a-z]*|a1)\\.", try(fleet.instance_types[0], "")))
    ]]))
    error_message = "fleets[].label_overrides.instance_types must be of the architecture of the fleet's instance_types: all start from its one image. Move the others to a fleet of their own."
  }

  validation {
    condition     = alltrue(flatten([for fleet in var.fleets : [for market in try(fleet.label_overrides.markets, []) : contains(["spot", "on-demand"], market)]]))
    error_message = "fleets[].label_overrides.markets must be spot or on-demand, or both; leave others out."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : contains(["spot", "on-demand"], fleet.market)])
    error_message = "fleets[].market must be spot or on-demand."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : fleet.fallback == null || (coalesce(fleet.fallback, "-") == "on-demand" && fleet.market == "spot")])
    error_message = "fleets[].fallback can only be on-demand, and only where market is spot; remove it."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : contains(["exact", "subset"], fleet.matching)])
    error_message = "fleets[].matching must be exact (the job names the fleet's labels, no more and no fewer) or subset (the job names some of them)."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : contains(["organization", "repository"], fleet.registration)])
    error_message = "fleets[].registration must be organization or repository."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : fleet.runner_group_id >= 1 && floor(fleet.runner_group_id) == fleet.runner_group_id && (fleet.registration == "organization" || fleet.runner_group_id == 1)])
    error_message = "fleets[].runner_group_id must be a whole number of 1 or more, and 1 where registration is repository: repositories have no runner groups."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : can(regex("^[A-Za-z0-9_-]{0,40}$", fleet.runner_name_prefix))])
    error_message = "fleets[].runner_name_prefix must be at most 40 letters, digits, hyphens and underscores: GitHub's names have 64 characters, an instance id 19."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : fleet.ami_id == null || fleet.ami_ssm_parameter == null])
    error_message = "fleets[] may have ami_id or ami_ssm_parameter, not both: name the image once."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : fleet.ami_id == null || startswith(coalesce(fleet.ami_id, "-"), "ami-")])
    error_message = "fleets[].ami_id must be an image's id, ami-…."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : fleet.disk_gib >= 8 && fleet.disk_gib <= 16384 && floor(fleet.disk_gib) == fleet.disk_gib])
    error_message = "fleets[].disk_gib must be a whole number from 8 to 16384: a smaller root volume than the image's is refused at launch, gp3 ends there."
  }

  validation {
    condition     = alltrue(flatten([for fleet in var.fleets : [for id in fleet.subnet_ids : startswith(id, "subnet-")]]))
    error_message = "fleets[].subnet_ids must be ids of subnets, subnet-…."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : length(distinct(fleet.subnet_ids)) == length(fleet.subnet_ids)])
    error_message = "fleets[].subnet_ids must name each subnet once: EC2 refuses every launch with duplicate pools. Remove the second."
  }

  validation {
    condition     = alltrue(flatten([for fleet in var.fleets : [for schedule in fleet.idle : length(regexall("\\S+", schedule.cron)) == 5]]))
    error_message = "fleets[].idle[].cron must have five fields (minute hour day month weekday), for example \"* 8-18 * * 1-5\"; seconds have no place, and @daily and its like are not known."
  }

  # Field by field: what a value of it looks like. A little more passes here than the functions take (`5W` among the
  # months, say), and nothing less.
  validation {
    condition = alltrue(flatten([for fleet in var.fleets : [for schedule in fleet.idle : [for index, value in [
      "[0-5]?[0-9]",
      "([01]?[0-9]|2[0-3])",
      "(0?[1-9]|[12][0-9]|3[01])",
      "(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)",
      "([0-7]|sun|mon|tue|wed|thu|fri|sat)",
      ] :
      can(regex("(?i)^\\+?(([*?]|lw?|${value}(-${value})?(#[1-5l]|[lw])?)(/[1-9][0-9]*)?(,|$))+$", regexall("\\S+", schedule.cron)[index])) &&
      alltrue([for range in regexall("([0-9]+)-([0-9]+)", schedule.cron) : tonumber(range[0]) <= tonumber(range[1])])
    ] if length(regexall("\\S+", schedule.cron)) == 5]]))
    error_message = "fleets[].idle[].cron must have in each field what that field has (minutes 0-59, hours 0-23, days 1-31, months 1-12, weekdays 0-7), as *, numbers, names, lists, steps and ranges that run upwards: two schedules in place of 22-6."
  }

  # No list of the zones is known to Terraform.
  validation {
    condition     = alltrue(flatten([for fleet in var.fleets : [for schedule in fleet.idle : can(regex("^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$", schedule.time_zone))]]))
    error_message = "fleets[].idle[].time_zone must be a name of the IANA database, for example Europe/Berlin or UTC, and no offset. Whether there is a zone of that name only the functions know: they refuse the document and log an error."
  }

  validation {
    condition     = alltrue(flatten([for fleet in var.fleets : [for schedule in fleet.idle : schedule.count >= 1 && schedule.count <= fleet.runner_count_max && floor(schedule.count) == schedule.count]]))
    error_message = "fleets[].idle[].count must be a whole number from 1 to the fleet's runner_count_max."
  }

  validation {
    condition = alltrue([for fleet in var.fleets : fleet.idle_owner == null || can(regex(
      fleet.registration == "repository" ? "^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$" : "^[A-Za-z0-9_.-]{1,100}$", coalesce(fleet.idle_owner, "-")
    ))])
    error_message = "fleets[].idle_owner must be an organisation's login, and owner/name where registration is repository."
  }

  # By name what a value looks like: the supervisor does not start with another one, and ignores another name. Those that
  # the module sets itself are not here: the functions must say the same.
  validation {
    condition = alltrue(flatten([for fleet in var.fleets : [for name, value in fleet.supervisor_settings : can(regex("^(${ {
      RUNNER_FOLDER            = "/[A-Za-z0-9_./-]+"
      LISTENER_COMMAND         = "/[A-Za-z0-9_./-]+"
      RUNNER_USER              = "[A-Za-z0-9_.:-]+"
      BOOT_DEADLINE_SECONDS    = "[6-9][0-9]|[1-9][0-9]{2,8}"
      ACQUIRE_WATCHDOG_SECONDS = "1[89][0-9]|[2-9][0-9]{2}|[1-9][0-9]{3,8}"
      HARD_AGE_SECONDS         = "439[2-9][0-9]{2}|4[4-9][0-9]{4}|[5-9][0-9]{5}|[1-9][0-9]{6,8}"
      DRAIN_LOOK_SECONDS       = "[1-9]|[1-5][0-9]|60"
      BEAT_SECONDS             = "[1-9][0-9]|1[01][0-9]|120"
      BLOCK_METADATA           = "true|false"
      JOB_STARTED_HOOK         = "/[A-Za-z0-9_./-]+"
      JOB_COMPLETED_HOOK       = "/[A-Za-z0-9_./-]+"
      LOG_GROUP                = "[A-Za-z0-9_./#-]{1,512}"
      FREEZER                  = "auto|stop"
      POWER_OFF_COMMAND        = "[A-Za-z0-9_./=-]+( [A-Za-z0-9_./=-]+)*"
      RUN_FOLDER               = "/[A-Za-z0-9_./-]+"
      STATE_FOLDER             = "/[A-Za-z0-9_./-]+"
    }[name]})$", value))]]))
    error_message = "fleets[].supervisor_settings must be settings of instance/README.md (\"Settings\") by their names there, each with a value that it takes (plain paths, whole seconds within the limits, no quotes, no line ends), and none that the module sets: RUNNER_PARAMETER_PATH, VITAL_SIGNS_TABLE, VITAL_SIGNS_KEY_PREFIX, and IDLE_MAXIMUM_SECONDS, which is timers.idle_maximum_seconds."
  }

  validation {
    condition     = alltrue([for fleet in var.fleets : contains(["oldest_first", "newest_first"], fleet.eviction)])
    error_message = "fleets[].eviction must be oldest_first or newest_first."
  }

  validation {
    condition = alltrue(flatten([for fleet in var.fleets : [for name, minimum in {
      idle_window_seconds     = 120
      quarantine_seconds      = 120
      completed_grace_seconds = 600
      boot_grace_seconds      = 300
      gone_grace_seconds      = 900
      idle_maximum_seconds    = 60
      drain_answer_seconds    = 60
      minimum_running_seconds = 0
      removal_lease_seconds   = 120
    } : fleet.timers[name] == null || try(fleet.timers[name] >= minimum && fleet.timers[name] <= 432000 && floor(fleet.timers[name]) == fleet.timers[name], false)]]))
    error_message = "fleets[].timers must be whole numbers and keep to their minimums (idle_window, quarantine and removal_lease 120; completed_grace 600; boot_grace 300; gone_grace 900; idle_maximum and drain_answer 60) and to five days: below, runners are ended on readings that may still be wrong."
  }
}

variable "mode" {
  description = "`enforce`; `observe` judges and removes nothing, while all else goes on; `retire` launches nothing and drains everything, which is how a deployment ends (infra/README.md, \"Going away\")."
  type        = string
  default     = "enforce"

  validation {
    condition     = contains(["enforce", "observe", "retire"], var.mode)
    error_message = "mode must be enforce, observe or retire."
  }
}

variable "repositories" {
  description = "Globs of `owner/name` that are served; jobs of others are ignored."
  type        = list(string)
  default     = ["*"]

  validation {
    condition     = length(var.repositories) > 0 && alltrue([for glob in var.repositories : glob == "*" || length(split("/", glob)) == 2])
    error_message = "repositories must be globs of owner/name, for example [\"acme/*\"], or [\"*\"] for all that the App is installed on."
  }
}

variable "owners" {
  description = "Globs of owners whose jobs are served, besides `repositories`."
  type        = list(string)
  default     = ["*"]

  validation {
    condition     = length(var.owners) > 0 && alltrue([for glob in var.owners : length(split("/", glob)) == 1])
    error_message = "owners must be globs of logins, for example [\"acme*\"]; owner/name goes to repositories."
  }
}

variable "owner_ids" {
  description = "Ids of owners whose jobs are served: names can be taken over, ids cannot. `null`: any."
  type        = list(number)
  default     = null

  validation {
    condition     = var.owner_ids == null || try(length(var.owner_ids) > 0 && alltrue([for id in var.owner_ids : id >= 0 && floor(id) == id]), false)
    error_message = "owner_ids must name an id, each a whole number, or be null: an empty list would serve nobody."
  }
}

variable "repository_ids" {
  description = "Ids of repositories whose jobs are served. `null`: any."
  type        = list(number)
  default     = null

  validation {
    condition     = var.repository_ids == null || try(length(var.repository_ids) > 0 && alltrue([for id in var.repository_ids : id >= 0 && floor(id) == id]), false)
    error_message = "repository_ids must name an id, each a whole number, or be null: an empty list would serve nobody."
  }
}

variable "github_api_url" {
  description = "GitHub's API; of an enterprise with data residency `https://api.SUBDOMAIN.ghe.com`, of a GitHub Enterprise Server `https://HOST/api/v3`."
  type        = string
  default     = "https://api.github.com"

  validation {
    condition = (startswith(var.github_api_url, "https://") &&
      !can(regex("(?i)^https://(www\\.)?github\\.com(/|$)", var.github_api_url)) &&
      (startswith(var.github_api_url, "https://api.") || !can(regex("(?i)^https://[^/]+\\.ghe\\.com(/|$)", var.github_api_url)))
    )
    error_message = "github_api_url must be an API's address and begin with https://, for the App's tokens travel to it: https://api.github.com, https://api.SUBDOMAIN.ghe.com or https://HOST/api/v3, and not that of the pages."
  }
}

variable "ledger_epoch" {
  description = "Time of a restore of the ledger from a backup, RFC 3339; instances launched before it are never ended on an absence or a flag. One that lies ahead is ignored, and an error of every pass of scale-down and orphan-sweeper."
  type        = string
  default     = null

  validation {
    condition     = var.ledger_epoch == null || can(timeadd(coalesce(var.ledger_epoch, "-"), "0s"))
    error_message = "ledger_epoch must be an RFC 3339 time, for example \"2026-11-20T14:30:00Z\"."
  }
}

variable "packages_folder" {
  description = "Folder with the functions' packages, `<function>.zip`, as `infra/package` writes them; its `dist/<function_architecture>` by default."
  type        = string
  default     = null
}

variable "function_architecture" {
  description = "What the functions' packages were built for: `arm64` or `x86_64`."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.function_architecture)
    error_message = "function_architecture must be arm64 or x86_64, as infra/package was told."
  }
}

variable "function_network" {
  description = "Subnets and security groups for the functions where GitHub or AWS is reached only from inside a VPC; they then need a way out to both. `null`: outside of any VPC."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null

  validation {
    condition     = var.function_network == null || try(length(var.function_network.subnet_ids) > 0 && length(var.function_network.security_group_ids) > 0, false)
    error_message = "function_network must name at least one subnet and one security group, or be null."
  }
}

variable "runner" {
  description = "The archive of GitHub's runner that instances install, by architecture; the digests are those of its release notes."
  type = map(object({
    url    = string
    sha256 = string
  }))
  default = {
    arm64 = {
      url    = "https://github.com/actions/runner/releases/download/v2.337.0/actions-runner-linux-arm64-2.337.0.tar.gz"
      sha256 = "9b1dc70626422526e3c94767cf024896beb15da5342a3f4819bf2feac13e0393"
    }
    x86_64 = {
      url    = "https://github.com/actions/runner/releases/download/v2.337.0/actions-runner-linux-x64-2.337.0.tar.gz"
      sha256 = "70920811a4f8ad4328818682bca5c6469c1c942fab52448868071d0063816613"
    }
  }

  validation {
    condition = alltrue([for architecture, archive in var.runner :
      contains(["arm64", "x86_64"], architecture) && startswith(archive.url, "https://") && can(regex("^[0-9a-f]{64}$", archive.sha256))
    ])
    error_message = "runner must have entries for arm64, x86_64 or both, and no other, each with an https url and a sha256 of 64 lower-case hexadecimal digits."
  }

  validation {
    condition     = alltrue([for architecture in keys(var.supervisor) : contains(keys(var.runner), architecture)])
    error_message = "runner must have an entry for every architecture that supervisor has."
  }
}

variable "kms_key_arn" {
  description = "A customer managed key for tables, queues, logs and volumes; `null`: AWS's own keys. Its policy must allow CloudWatch Logs and EC2's service-linked roles (infra/README.md)."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", coalesce(var.kms_key_arn, "-")))
    error_message = "kms_key_arn must be the ARN of a key, arn:aws:kms:…:key/…; an alias cannot be named in a policy."
  }
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of every role that is made."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::", coalesce(var.permissions_boundary_arn, "-")))
    error_message = "permissions_boundary_arn must be the ARN of a policy, arn:aws:iam::…:policy/…."
  }
}

variable "alarm_action_arns" {
  description = "SNS topics or other actions of every alarm; without any, alarms are seen on the dashboard only."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_action_arns : startswith(arn, "arn:")])
    error_message = "alarm_action_arns must be ARNs, for example of SNS topics."
  }
}

variable "log_level" {
  description = "What the functions log: `error`, `warn`, `info`, `debug`, or a filter of the tracing crate that names one of them, for example `info,runner_scaler_core::removal=debug`. One that the crate refuses counts as `info`, with a warning in the log; below `info` only our own code is logged; above it alarms and queries miss lines."
  type        = string
  default     = "info"

  validation {
    condition     = length(setintersection(split(",", lower(var.log_level)), ["error", "warn", "info", "debug", "trace"])) > 0
    error_message = "log_level must name error, warn, info, debug or trace, alone or beside directives (\"info,runner_scaler_core::removal=debug\"): a word that is no level counts as a crate's name, and everything else would be silent."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept; one of CloudWatch's values."
  type        = number
  default     = 90

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be one of CloudWatch's values: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, …; at least 7 lets an incident of the weekend be read on Monday."
  }
}

variable "scale_up_concurrency" {
  description = "At most this many invocations of scale-up at once; each takes up to 50 jobs."
  type        = number
  default     = 5

  validation {
    condition     = var.scale_up_concurrency >= 2 && var.scale_up_concurrency <= 1000 && floor(var.scale_up_concurrency) == var.scale_up_concurrency
    error_message = "scale_up_concurrency must be a whole number from 2 to 1000 (Lambda's limits for a queue); above 10, GitHub's and SSM's own limits only push back more."
  }
}

variable "tags" {
  description = "Tags of everything that is made, besides `ghr:environment`."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(key, "ghr:") && !startswith(key, "aws:")])
    error_message = "tags must not begin with ghr: or with aws:, for the first are ours and decide who may end an instance, the second are AWS's."
  }
}
