// How can several processes serve one port, when the kernel gives a port to one process only?
//
// First the plain way: of three processes that run server.js, the second and the third get EADDRINUSE. Then the same
// three as workers of a cluster: all listen, all answer. Then the reason, as the kernel shows it in /proc: there is one
// listening socket, and of all the processes on this machine only the primary has it open. The workers never had the
// port; they are handed connections.
//
// The cluster is told to pass connections on. By default, where that is allowed, the kernel chooses (mechanism "kernel"), and then the
// primary makes a listening socket for each worker beside its own.
//
// build:  npm install ../../node-addon
// run:    node same_port.cjs           (a free port; an argument is a port)
// expect: one "listens" and two EADDRINUSE in the first part; in the second a table in which each worker answered 3
//         times, and only the primary holds "socket:[...]".
'use strict';

const cluster = require('cluster-rs');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const SERVERS = 3;
const script = path.join(__dirname, 'server.js');

// One plain server: what it said, which is its port or the error that ended it.
async function startPlain(port) {
  const server = spawn(process.execPath, [script, port], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let complaint = '';
  server.stdout.setEncoding('utf8').on('data', (text) => { said += text; });
  server.stderr.setEncoding('utf8').on('data', (text) => { complaint += text; });
  await Promise.race([once(server.stdout, 'data'), once(server, 'close')]);
  const [, listensOn] = said.match(/listens on port (\d+)/) ?? [];
  const [error] = complaint.match(/^Error: .*$/m) ?? [];
  return { server, port: listensOn, said: listensOn ? `listens on port ${listensOn}` : error ?? complaint };
}

async function plainServers(port) {
  console.log(`${SERVERS} plain servers on one port:`);
  const started = [];
  for (let i = 0; i < SERVERS; i++) {
    const one = await startPlain(port);
    port = one.port ?? port;
    started.push(one.server);
    console.log(`  ${one.server.pid}  ${one.said}`);
  }
  for (const server of started.filter(({ exitCode }) => exitCode === null)) {
    server.kill();
    await once(server, 'exit');
  }
  return port;
}

// The inodes of the listening TCP sockets on a port: state 0A is "listen", the port is in hexadecimal.
function listeningInodes(port) {
  const end = `:${Number(port).toString(16).toUpperCase().padStart(4, '0')}`;
  return ['tcp', 'tcp6'].flatMap((table) => fs.readFileSync(`/proc/net/${table}`, 'utf8').split('\n').slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local, , state]) => state === '0A' && local.endsWith(end))
    .map((fields) => fields[9]);
}

// Every process that we may look into, with those of its descriptors that are the socket with this inode.
function holders(inode) {
  const found = new Map();
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const descriptors = fs.readdirSync(`/proc/${pid}/fd`).filter((fd) => {
        try {
          return fs.readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`;
        } catch {
          return false; // Closed meanwhile.
        }
      });
      if (descriptors.length > 0) found.set(Number(pid), descriptors);
    } catch {
      // Gone meanwhile, or somebody else's.
    }
  }
  return found;
}

async function visit(port) {
  const [response] = await once(http.get({ port, agent: false }), 'response');
  let body = '';
  for await (const part of response.setEncoding('utf8')) body += part;
  return Number(body.match(/answered by (\d+)/)[1]);
}

async function clusterOfServers(port) {
  cluster.setupPrimary({ exec: script, args: [port], silent: true, mechanism: 'passed' });
  const workers = Array.from({ length: SERVERS }, () => cluster.fork());
  await Promise.all(workers.map((worker) => once(worker, 'listening')));

  const answers = new Map();
  for (let i = 0; i < 3 * SERVERS; i++) {
    const pid = await visit(port);
    answers.set(pid, (answers.get(pid) ?? 0) + 1);
  }

  const inodes = listeningInodes(port);
  const held = new Map(); // pid -> what it holds
  for (const inode of inodes) {
    for (const [pid, descriptors] of holders(inode)) {
      held.set(pid, [...held.get(pid) ?? [], `socket:[${inode}] as descriptor ${descriptors}`]);
    }
  }
  const names = new Map([[process.pid, 'primary']]);
  for (const worker of workers) names.set(worker.process.pid, `worker ${worker.id}`);
  for (const pid of held.keys()) if (!names.has(pid)) names.set(pid, 'a stranger');

  console.log(`\nThe same server.js as ${SERVERS} workers of a cluster on port ${port}:`);
  console.log('  pid      who       answers  holds');
  for (const [pid, name] of names) {
    console.log(`  ${String(pid).padEnd(7)}  ${name.padEnd(10)}${String(answers.get(pid) ?? '-').padStart(7)}  ${
      held.get(pid)?.join(', ') ?? '-'}`);
  }
  console.log(`Listening sockets on the port: ${inodes.length}. Held by: ${
    [...held.keys()].map((pid) => names.get(pid)).join(', ')}.`);
  cluster.disconnect();
}

cluster.on('exit', (worker, code) => {
  if (!worker.exitedAfterDisconnect) throw new Error(`worker ${worker.id} ended with ${code}`);
});
plainServers(process.argv[2] ?? '0').then(clusterOfServers);
