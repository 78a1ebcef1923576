# Every validation refuses what it is there to refuse. The comment over a run is how its message begins.
#
# Of the variables alone (variables.tf is a link): no provider has to start, and all of it takes seconds. check.py looks
# whether it is this validation that refuses, and whether each has a run.

variables {
  environment = "prod"
  subnet_ids  = ["subnet-0aaaaaaaaaaaaaaa1"]
  supervisor = {
    arm64  = { url = "https://example.com/runner-supervisor-arm64", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
    x86_64 = { url = "https://example.com/runner-supervisor-x86_64", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  }
  fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"] }]
}

run "what_is_right_is_planned" {
  command = plan
}

run "so_is_what_is_unusual" {
  command = plan

  variables {
    github_api_url = "https://api.octo.ghe.com"
    log_level      = "Warn,runner_scaler_core::removal=debug"
    fleets = [{
      name                = "linux"
      labels              = ["self-hosted", join("", [for n in range(128) : "ä"])]
      runner_count_max    = 2
      instance_types      = ["m7i.large"]
      label_overrides     = { instance_types = ["u-6tb1.metal", "i3.metal", "m7i-flex.large"], markets = ["spot", "on-demand"] }
      idle_owner          = "acme.labs_1"
      supervisor_settings = { HARD_AGE_SECONDS = "439200", POWER_OFF_COMMAND = "systemctl poweroff --force", LOG_GROUP = "/runners/prod", JOB_STARTED_HOOK = "/opt/hooks/started.sh" }
      idle = [for cron in ["*\t8-18  * * 1-5", "*/15 0,12 1-7/2 JAN-mar mon-SUN", "0 0 L * 5#2,6L", "59 23 31,15W 12 7", "0 0 ? * +fri"] :
        { cron = cron, time_zone = "America/Argentina/Buenos_Aires", count = 2 }
      ]
    }]
  }
}

# environment must
run "environment_in_capitals" {
  command         = plan
  expect_failures = [var.environment]

  variables {
    environment = "Prod"
  }
}

# subnet_ids must name at least one
run "no_subnet" {
  command         = plan
  expect_failures = [var.subnet_ids]

  variables {
    subnet_ids = []
  }
}

# subnet_ids must name each subnet once
run "a_subnet_twice" {
  command         = plan
  expect_failures = [var.subnet_ids]

  variables {
    subnet_ids = ["subnet-0aaaaaaaaaaaaaaa1", "subnet-0aaaaaaaaaaaaaaa1"]
  }
}

# supervisor must have an entry
run "supervisor_of_an_unknown_architecture" {
  command         = plan
  expect_failures = [var.supervisor]

  variables {
    supervisor = { riscv = { url = "https://example.com/s", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }, arm64 = { url = "https://example.com/s", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" } }
  }
}

# supervisor must give each url
run "supervisor_in_the_clear" {
  command         = plan
  expect_failures = [var.supervisor]

  variables {
    supervisor = { arm64 = { url = "http://example.com/s", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" } }
  }
}

# fleets must name at least one fleet
run "two_fleets_of_one_name" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["a"], runner_count_max = 2, instance_types = ["m7g.large"] }, { name = "linux", labels = ["b"], runner_count_max = 2, instance_types = ["m7g.large"] }]
  }
}

# fleets[].name must
run "a_name_with_a_space" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "a b", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"] }]
  }
}

# fleets[].labels must be 1 to
run "no_label" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = [], runner_count_max = 2, instance_types = ["m7g.large"] }]
  }
}

# fleets[].labels must be 1 to
run "a_label_of_258_bytes" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted", join("", [for n in range(129) : "ä"])], runner_count_max = 2, instance_types = ["m7g.large"] }]
  }
}

# fleets[].labels must each be named once
run "a_label_twice" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["linux", "Linux"], runner_count_max = 2, instance_types = ["m7g.large"] }]
  }
}

# fleets[].runner_count_max must
run "no_runner" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 0, instance_types = ["m7g.large"] }]
  }
}

# fleets[].runner_count_max must
run "half_a_runner" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 1.5, instance_types = ["m7g.large"] }]
  }
}

# fleets[].instance_types must name at least one
run "no_instance_type" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = [] }]
  }
}

# fleets[].instance_types must name each type once
run "an_instance_type_twice" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large", "c7g.large", "m7g.large"] }]
  }
}

# fleets[].instance_types must be on the Nitro System
run "not_on_nitro" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m4.large"] }]
  }
}

# fleets[].instance_types must be of one architecture
run "two_architectures" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large", "m7i.large"] }]
  }
}

# fleets[].instance_types needs an architecture
run "an_architecture_without_supervisor" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    supervisor = { arm64 = { url = "https://example.com/s", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" } }
    fleets     = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7i.large"] }]
  }
}

# fleets[].label_overrides.instance_types must be instance types
run "a_command_as_an_override" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], label_overrides = { instance_types = ["c7g.large; reboot"] } }]
  }
}

# fleets[].label_overrides.instance_types must be on the Nitro System
run "an_override_not_on_nitro" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7i.large"], label_overrides = { instance_types = ["m4.large"] } }]
  }
}

# fleets[].label_overrides.instance_types must be of the architecture
run "an_override_of_another_architecture" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], label_overrides = { instance_types = ["c7g.large", "c7i.large"] } }]
  }
}

# fleets[].label_overrides.markets must
run "an_override_of_an_unknown_market" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], label_overrides = { markets = ["cheap"] } }]
  }
}

# fleets[].market must
run "an_unknown_market" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], market = "reserved" }]
  }
}

# fleets[].fallback can
run "on_demand_that_falls_back" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], market = "on-demand", fallback = "on-demand" }]
  }
}

# fleets[].matching must
run "an_unknown_matching" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], matching = "superset" }]
  }
}

# fleets[].registration must
run "an_unknown_registration" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], registration = "enterprise" }]
  }
}

# fleets[].runner_group_id must
run "a_group_in_a_repository" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], registration = "repository", runner_group_id = 2 }]
  }
}

# fleets[].runner_group_id must
run "half_a_group" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], runner_group_id = 1.5 }]
  }
}

# fleets[].runner_name_prefix must
run "a_long_prefix" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], runner_name_prefix = "a-prefix-that-is-longer-than-forty-characters" }]
  }
}

# fleets[] may have
run "two_images" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], ami_id = "ami-0123456789abcdef0", ami_ssm_parameter = "/aws/service/x" }]
  }
}

# fleets[].ami_id must
run "an_image_by_name" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], ami_id = "ubuntu" }]
  }
}

# fleets[].disk_gib must
run "a_small_disk" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], disk_gib = 4 }]
  }
}

# fleets[].subnet_ids must be ids
run "a_subnet_by_name" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], subnet_ids = ["private"] }]
  }
}

# fleets[].subnet_ids must name each subnet once
run "a_fleets_subnet_twice" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], subnet_ids = ["subnet-0aaaaaaaaaaaaaaa1", "subnet-0aaaaaaaaaaaaaaa1"] }]
  }
}

# fleets[].idle[].cron must have five fields
run "a_cron_with_seconds" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle = [{ cron = "* * 9-17 * * 1-5", count = 1 }] }]
  }
}

# fleets[].idle[].cron must have five fields
run "a_cron_by_nickname" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle = [{ cron = "@daily", count = 1 }] }]
  }
}

# fleets[].idle[].cron must have in each field
run "an_hour_that_no_day_has" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle = [{ cron = "* 24 * * *", count = 1 }] }]
  }
}

# fleets[].idle[].cron must have in each field
run "a_range_that_runs_back" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle = [{ cron = "* 22-6 * * *", count = 1 }] }]
  }
}

# fleets[].idle[].cron must have in each field
run "a_step_of_nothing" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle = [{ cron = "*/0 * * * *", count = 1 }] }]
  }
}

# fleets[].idle[].cron must have in each field
run "a_word_in_place_of_a_weekday" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle = [{ cron = "* * * * someday", count = 1 }] }]
  }
}

# fleets[].idle[].time_zone must
run "an_offset_in_place_of_a_zone" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle = [{ cron = "* * * * *", time_zone = "+01:00", count = 1 }] }]
  }
}

# fleets[].idle[].time_zone must
run "a_path_in_place_of_a_zone" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle = [{ cron = "* * * * *", time_zone = "../../etc/passwd", count = 1 }] }]
  }
}

# fleets[].idle[].count must
run "more_idle_than_runners" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle = [{ cron = "* * * * *", count = 3 }] }]
  }
}

# fleets[].idle[].count must
run "half_an_idle_runner" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle = [{ cron = "* * * * *", count = 1.5 }] }]
  }
}

# fleets[].idle_owner must
run "a_pool_of_a_repository_in_an_organisation" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle_owner = "acme/hello" }]
  }
}

# fleets[].idle_owner must
run "a_pool_of_no_login" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], idle_owner = "acme labs" }]
  }
}

# fleets[].supervisor_settings must
run "a_setting_of_the_modules_own" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], supervisor_settings = { VITAL_SIGNS_TABLE = "mine" } }]
  }
}

# fleets[].supervisor_settings must
run "a_setting_misspelt" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], supervisor_settings = { BLOCK_METADTA = "false" } }]
  }
}

# fleets[].supervisor_settings must
run "a_setting_that_the_supervisor_refuses" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], supervisor_settings = { BEAT_SECONDS = "300" } }]
  }
}

# fleets[].supervisor_settings must
run "a_setting_of_two_lines" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], supervisor_settings = { LOG_GROUP = "/runners\nEND-OF-SETTINGS" } }]
  }
}

# fleets[].supervisor_settings must
run "a_log_group_that_is_a_pattern" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], supervisor_settings = { LOG_GROUP = "*" } }]
  }
}

# fleets[].eviction must
run "an_unknown_eviction" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], eviction = "random" }]
  }
}

# fleets[].timers must
run "a_timer_below_its_minimum" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], timers = { quarantine_seconds = 60 } }]
  }
}

# fleets[].timers must
run "half_a_second" {
  command         = plan
  expect_failures = [var.fleets]

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], timers = { quarantine_seconds = 300.5 } }]
  }
}

# mode must
run "an_unknown_mode" {
  command         = plan
  expect_failures = [var.mode]

  variables {
    mode = "pause"
  }
}

# repositories must
run "a_repository_without_owner" {
  command         = plan
  expect_failures = [var.repositories]

  variables {
    repositories = ["hello"]
  }
}

# owners must
run "an_owner_with_a_repository" {
  command         = plan
  expect_failures = [var.owners]

  variables {
    owners = ["acme/hello"]
  }
}

# owner_ids must
run "no_owner_id" {
  command         = plan
  expect_failures = [var.owner_ids]

  variables {
    owner_ids = []
  }
}

# owner_ids must
run "half_an_owner_id" {
  command         = plan
  expect_failures = [var.owner_ids]

  variables {
    owner_ids = [1.5]
  }
}

# repository_ids must
run "no_repository_id" {
  command         = plan
  expect_failures = [var.repository_ids]

  variables {
    repository_ids = []
  }
}

# repository_ids must
run "a_repository_id_below_zero" {
  command         = plan
  expect_failures = [var.repository_ids]

  variables {
    repository_ids = [-1]
  }
}

# github_api_url must
run "an_api_in_the_clear" {
  command         = plan
  expect_failures = [var.github_api_url]

  variables {
    github_api_url = "http://ghes.example.com/api/v3"
  }
}

# github_api_url must
run "the_address_of_the_pages" {
  command         = plan
  expect_failures = [var.github_api_url]

  variables {
    github_api_url = "https://github.com"
  }
}

# github_api_url must
run "the_address_of_an_enterprises_pages" {
  command         = plan
  expect_failures = [var.github_api_url]

  variables {
    github_api_url = "https://octo.ghe.com"
  }
}

# ledger_epoch must
run "an_epoch_that_is_a_day" {
  command         = plan
  expect_failures = [var.ledger_epoch]

  variables {
    ledger_epoch = "2026-11-20"
  }
}

# function_architecture must
run "functions_on_another_architecture" {
  command         = plan
  expect_failures = [var.function_architecture]

  variables {
    function_architecture = "riscv"
  }
}

# function_network must
run "a_network_without_subnets" {
  command         = plan
  expect_failures = [var.function_network]

  variables {
    function_network = { subnet_ids = [], security_group_ids = ["sg-0a"] }
  }
}

# runner must have entries
run "a_runner_without_digest" {
  command         = plan
  expect_failures = [var.runner]

  variables {
    runner = { arm64 = { url = "https://example.com/r", sha256 = "" }, x86_64 = { url = "https://example.com/r", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" } }
  }
}

# runner must have an entry for every
run "a_runner_of_one_architecture" {
  command         = plan
  expect_failures = [var.runner]

  variables {
    runner = { arm64 = { url = "https://example.com/r", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" } }
  }
}

# kms_key_arn must
run "a_key_by_alias" {
  command         = plan
  expect_failures = [var.kms_key_arn]

  variables {
    kms_key_arn = "alias/mine"
  }
}

# permissions_boundary_arn must
run "a_boundary_by_name" {
  command         = plan
  expect_failures = [var.permissions_boundary_arn]

  variables {
    permissions_boundary_arn = "boundary"
  }
}

# alarm_action_arns must
run "an_action_by_name" {
  command         = plan
  expect_failures = [var.alarm_action_arns]

  variables {
    alarm_action_arns = ["oncall"]
  }
}

# log_level must
run "no_log_level" {
  command         = plan
  expect_failures = [var.log_level]

  variables {
    log_level = ""
  }
}

# log_level must
run "a_level_misspelt" {
  command         = plan
  expect_failures = [var.log_level]

  variables {
    log_level = "inof"
  }
}

# log_retention_days must
run "logs_for_ten_days" {
  command         = plan
  expect_failures = [var.log_retention_days]

  variables {
    log_retention_days = 10
  }
}

# scale_up_concurrency must
run "one_at_a_time" {
  command         = plan
  expect_failures = [var.scale_up_concurrency]

  variables {
    scale_up_concurrency = 1
  }
}

# scale_up_concurrency must
run "half_an_invocation" {
  command         = plan
  expect_failures = [var.scale_up_concurrency]

  variables {
    scale_up_concurrency = 2.5
  }
}

# tags must
run "a_tag_of_ours" {
  command         = plan
  expect_failures = [var.tags]

  variables {
    tags = { "ghr:drain" = "now" }
  }
}
