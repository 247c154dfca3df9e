"""Every single fault × every phase of a life × who acts, judged by what is physically true."""
