"""The runner: the small process that starts, watches, stops and reaps the processes of jobs.

It stands alone: it imports the standard library and nothing else of JobService, is started detached
by `jobservice.executors.process`, outlives the worker and is spoken to over a Unix socket. One runs
per data directory. The parts:

    main          flags, the lock of the data directory, leaving the worker's session
    service       the socket, the connection of the newest worker, what it asks and is told
    attempts      all attempts: what waits, what runs, what has ended
    attempt       the life of one: launch, stop ladder, drain, end
    reports       what the worker has not been told yet
    containment   what holds a process tree together: the interface
    cgroup        each tree is born in a cgroup of its own
    subreaper     the same without cgroups: the runner's side of its supervisors
    supervisor    the forked process above a tree
    spawn         one process: directory, environment, posix_spawn, what a failure means
    output        pipes to files, the limit, the index (its docstring is the format)
    progress      lines of $JOBSERVICE_PROGRESS
    journal       what must be known after a death of the runner
    recovery      what a new runner does about its dead predecessor
    handover      how a running runner becomes a newer one without touching its jobs
    reactor       epoll, timers
    protocol      frames and the messages in them
    failpoint     where a test may kill the runner
    limits        every bound in one place
    log           a few lines for a person
    processes     /proc
    system        system calls that Python lacks
"""
