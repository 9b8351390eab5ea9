'use strict';

module.exports = ({ count, why }) => `usage: cluster-rs [options] script [-- arguments of the script]

Runs a program that was written for one process as several on the same port.

  -i, --instances N       how many workers: a number; max or 0; -1, one fewer than max, at least one (max)
                          max is ${count} here: ${why}
      --policy NAME       who gets the next connection: rr, in turn; least-loaded; source-hash, each client
                          address the same worker; none, whoever takes it first (rr)
      --mechanism NAME    how it gets there: kernel, by the kernel itself, which takes CAP_BPF; passed, by the
                          primary; rotation, by the workers in turn; auto, rotation for rr over TCP, otherwise
                          the first of kernel and passed that is to be had (auto)
      --respawn WHEN      which workers are replaced: always, on-failure, never (always; a worker that
                          exits with code 0 without ever having listened has finished and is not)
      --stop-deadline T   how long a worker may take to finish when it is stopped or replaced (30)
      --listen-timeout T  how long a worker may take to listen (10)
      --parallel N        how many workers a reload replaces at a time (1)
      --wait-ready        a worker is ready when it has called process.send('ready'), and not before
      --recycle LIMITS    replace workers that have done enough: rss=400M,requests=100000,connections=50000,
                          age=24h; jitter=20 makes each worker's limits up to 20 % higher
      --stats[=T]         show what each worker does: a table on a terminal, otherwise a line every 10 s
      --primary FILE      a module to load in the primary before the workers start; may be repeated
      --instance-var NAME the variable that tells a worker its place, 0 to n-1 (NODE_APP_INSTANCE)
      --node-options STR  options for the workers' Node, as in NODE_OPTIONS: "--require ./x.cjs --inspect"
  -h, --help              this
  -v, --version           the version

Times are in seconds, or with a unit: 1.5s, 500ms, 2m.

signals: SIGTERM, SIGINT  finish what was begun, then end; a second one makes haste
         SIGHUP           replace the workers, without refusing a connection; if new ones fail, the old stay
         SIGTTIN, SIGTTOU one worker more, one fewer
exit:    what the workers' exit was (128 + n: ended by signal n), 0 after a stop on request;
         1 when it cannot go on, 2 for a wrong command line
`;
