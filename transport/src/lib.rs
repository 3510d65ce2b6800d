//! Packet windows in shared memory, handed back and forth with futexes.
