//! The client against servers that misbehave (a scripted one, in this process) and against one that
//! does not (gVisor's own, where it is built).

mod fake;
mod raw;
