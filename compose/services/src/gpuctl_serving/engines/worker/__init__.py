"""An engine in a process of its own, killable at any instant: no other imports a device library."""
