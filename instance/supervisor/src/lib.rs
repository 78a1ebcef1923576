//! `runner-supervisor`: starts the runner on an EC2 instance, and powers the instance off.
//!
//! It decides by `runner-supervisor-decision`; here is how it looks at the machine and what it does to it. It talks to
//! instance metadata, SSM, DynamoDB and, if it is told to, CloudWatch Logs; never to GitHub and never to EC2's API. It
//! may die at any moment: the listener is not its pipe, its cgroup or its child for long, and whoever is started next
//! finds in a few small files what has to be known.

mod aws;
mod cgroup;
pub mod clock;
pub mod config;
pub mod console;
mod errands;
mod firewall;
mod http;
pub mod launch;
mod metadata;
mod power;
mod process;
mod secret;
pub mod supervise;
mod traces;
mod tree;
pub mod user;
mod watch;
