//! Values out of a real OpenBao, through the built controller, into Secrets of a real API server.

mod basics;
mod cadence;
mod guide;
mod identity;
mod leaks;
mod outage;
mod reading;
mod tenant;
mod tenants;
mod tls;
mod verbs;
mod world;
