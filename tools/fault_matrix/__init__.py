"""Every single fault × every phase of a reservation × every actor, judged by what is physically true."""
