'use strict';

// The server in Node that the fault rig compares: primary and worker, for cluster-rs and for stock node:cluster. How the rig
// speaks with it stands in ../README.md.

const fs = require('node:fs');
const net = require('node:net');
const { constants: { signals } } = require('node:os');

const { env } = process;
const UNAVAILABLE = 77;
const SILENCE = 2000;
const HELD = 10_000;
const number = (name, otherwise) => Number(env[name] || otherwise);

function loaded() {
  try {
    return require(env.FAULTS_MODULE || 'node:cluster');
  } catch (error) {
    tell({ event: 'unavailable', text: error.message.split('\n')[0] });
    return process.exit(UNAVAILABLE);
  }
}

function tell(line) {
  fs.writeSync(1, `${JSON.stringify(line)}\n`);
}

const cluster = loaded();

// ---- the worker

const KEEP_SILENT = 1;
const STAY_OPEN = 2;
const ACCEPTED = 1;
const READ = 2;

function listen(server) {
  server.on('error', (error) => {
    process.send?.({ refused: error.message });
  });
  server.listen({ port: number('FAULTS_PORT', 0), host: '127.0.0.1', backlog: number('FAULTS_BACKLOG', 511) });
}

function serveHttp() {
  const { createServer } = require('node:http');
  const text = `${cluster.worker.id}`;
  listen(createServer((request, response) => response.end(text)));
}

function serve() {
  const { id: worker } = cluster.worker;
  const claims = env.FAULTS_CLAIMS ? fs.openSync(env.FAULTS_CLAIMS, 'a') : -1;
  const idle = new Set();
  const workMs = number('FAULTS_WORK_US', 0) / 1000;
  const growBy = number('FAULTS_GROW_KB', 0) * 1024;
  const lost = [];
  let leaving = false;

  function claim(kind, port, id) {
    if (claims < 0) return;
    const record = Buffer.alloc(32);
    new Uint32Array(record.buffer, record.byteOffset, 4).set([kind, process.pid, worker, port]);
    new BigUint64Array(record.buffer, record.byteOffset + 16, 2).set([process.hrtime.bigint(), id]);
    fs.writeSync(claims, record);
  }

  function answer(socket, id, isLast) {
    const text = Buffer.alloc(32);
    new BigUint64Array(text.buffer, text.byteOffset, 1)[0] = id;
    new Uint32Array(text.buffer, text.byteOffset + 8, 2).set([worker, process.pid]);
    new Uint32Array(text.buffer, text.byteOffset + 24, 1)[0] = isLast ? 1 : 0;
    new BigUint64Array(text.buffer, text.byteOffset + 16, 1)[0] = process.hrtime.bigint();
    if (isLast) socket.end(text);
    else socket.write(text);
    if (growBy > 0) lost.push(Buffer.alloc(growBy, 1));
  }

  function asked(socket, port, bytes) {
    // A copy, because eight bytes of a Buffer need not stand where a BigUint64Array may begin.
    const [id] = new BigUint64Array(new Uint8Array(bytes).buffer);
    claim(READ, port, id);
    const wish = Number(id >> 56n);
    if (wish === KEEP_SILENT) {
      idle.delete(socket);
      setTimeout(() => socket.destroy(), HELD);
      return;
    }
    const isLast = leaving || wish !== STAY_OPEN;
    if (isLast) idle.delete(socket);
    answer(socket, id, isLast);
  }

  function work() {
    if (workMs === 0) return;
    const end = performance.now() + workMs;
    while (performance.now() < end);
  }

  const server = net.createServer((socket) => {
    const port = socket.remotePort ?? 0;
    claim(ACCEPTED, port, 0n);
    work();
    let rest = Buffer.alloc(0);
    idle.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => idle.delete(socket));
    socket.on('data', (data) => {
      rest = rest.length > 0 ? Buffer.concat([rest, data]) : data;
      for (; rest.length >= 8; rest = rest.subarray(8)) asked(socket, port, rest.subarray(0, 8));
    });
  });
  // Node closes the servers of a worker that is asked to leave, and lets it end when their last connection has ended.
  const { close } = server;
  server.close = function closeAndLeave(...args) {
    leaving = true;
    setTimeout(() => idle.forEach((socket) => socket.destroy()), SILENCE).unref();
    return Reflect.apply(close, this, args);
  };
  listen(server);

  process.on('SIGUSR2', () => {
    const end = performance.now() + number('FAULTS_BUSY_MS', 1000);
    while (performance.now() < end);
  });
  if (env.FAULTS_GRANDCHILDREN === '1') {
    const { spawn } = require('node:child_process');
    spawn('setpriv', ['--pdeathsig', 'KILL', 'sleep', '600'], { stdio: 'ignore' }).unref();
  }
}

// ---- the primary

class Supervisor {
  #workers = new Map();
  #wanted = number('FAULTS_WORKERS', 2);
  #timers = new Set();
  #resizing = false;
  #stopping = false;

  start() {
    for (let i = 0; i < this.#wanted; i++) this.#fork();
  }

  // `instead`: the id of the worker that shall leave when this one listens.
  #fork(instead) {
    const worker = cluster.fork({ FAULTS_PORT: env.FAULTS_PORT });
    const { pid } = worker.process;
    // Without a process there is an 'error' and nothing else; the rotation must not stay short of one.
    worker.on('error', (error) => {
      tell({ event: 'warning', text: `worker ${worker.id}: ${error.message}` });
      if (pid === undefined) this.#later(() => this.#fork(instead));
    });
    if (pid === undefined) return;
    const life = { worker, pid, instead, listens: false, leaves: false, replacedBy: undefined, again: false };
    this.#workers.set(worker.id, life);
    tell({ event: 'fork', id: worker.id, pid });
    worker.on('message', ({ refused }) => refused && this.#refused(refused));
    worker.on('listening', ({ port }) => {
      life.listens = true;
      tell({ event: 'listening', id: worker.id, pid, port, mechanism: mechanism() });
      this.#resized();
      if (life.instead === undefined) return;
      const old = this.#workers.get(life.instead);
      if (old) {
        old.replacedBy = worker.id;
        this.#leave(old);
      } else {
        tell({ event: 'replaced', id: life.instead, by: worker.id });
      }
    });
    worker.on('exit', (code, signal) => {
      this.#workers.delete(worker.id);
      tell({ event: 'exit', id: worker.id, pid, code: code ?? -1, signal: signals[signal] ?? 0 });
      if (life.replacedBy !== undefined) tell({ event: 'replaced', id: worker.id, by: life.replacedBy });
      this.#ended(life);
    });
  }

  #ended(life) {
    if (this.#stopping) {
      if (this.#workers.size === 0) process.exit(0);
      return;
    }
    const isExpected = [...this.#workers.values()].some(({ instead }) => instead === life.worker.id);
    if (life.again) this.#fork();
    else if (!life.leaves && life.instead !== undefined && !life.listens) this.#later(() => this.#fork(life.instead));
    else if (!life.leaves && !isExpected) this.#later(() => this.#fork());
    this.#resized();
  }

  #later(what) {
    // As programs do it: at once.
    if (number('FAULTS_GAP_MS', 0) === 0) {
      what();
      return;
    }
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      what();
    }, number('FAULTS_GAP_MS', 0));
    this.#timers.add(timer);
  }

  #leave(life) {
    life.leaves = true;
    if (life.worker.isConnected()) life.worker.disconnect();
  }

  #resized() {
    if (!this.#resizing) return;
    const lives = [...this.#workers.values()];
    if (lives.length !== this.#wanted || !lives.every(({ listens, leaves }) => listens && !leaves)) return;
    this.#resizing = false;
    tell({ event: 'resized', workers: this.#wanted });
  }

  #resize(count) {
    this.#wanted = count;
    this.#resizing = true;
    const staying = [...this.#workers.values()].filter(({ leaves }) => !leaves);
    for (let i = staying.length; i < count; i++) this.#fork();
    for (const life of staying.slice(count)) this.#leave(life);
    this.#resized();
  }

  #refused(text) {
    tell({ event: 'unavailable', text });
    for (const { worker } of this.#workers.values()) worker.process.kill('SIGKILL');
    process.exit(UNAVAILABLE);
  }

  command(line) {
    const [what, argument] = line.split(' ');
    const life = this.#workers.get(Number(argument));
    if (what === 'replace') {
      this.#fork(Number(argument));
    } else if (what === 'disconnect' && life) {
      life.again = true;
      this.#leave(life);
    } else if (what === 'resize') {
      this.#resize(Number(argument));
    } else if (what === 'stop') {
      this.#stopping = true;
      for (const timer of this.#timers) clearTimeout(timer);
      for (const one of this.#workers.values()) this.#leave(one);
      if (this.#workers.size === 0) process.exit(0);
    }
  }

  abandon() {
    for (const { worker } of this.#workers.values()) worker.process.kill('SIGKILL');
    process.exit(0);
  }
}

function mechanism() {
  if (!cluster.stats) return 'stock';
  return cluster.schedulingPolicy === cluster.SCHED_NONE ? 'shared' : cluster.stats().addresses[0].mechanism;
}

// Stock Node closes a port whose last worker has died, and opens another when the next one asks for any: so all ask for the
// same one.
function withPort(ready) {
  const server = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => ready(port));
  });
}

function supervise() {
  cluster.schedulingPolicy = env.FAULTS_POLICY === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR;
  const kind = env.FAULTS_MECHANISM || 'auto';
  cluster.setupPrimary(cluster.stats && kind !== 'none' ? { mechanism: kind } : {});
  process.on('warning', ({ message }) => tell({ event: 'warning', text: message }));
  const supervisor = new Supervisor();
  withPort((port) => {
    env.FAULTS_PORT = port;
    supervisor.start();
    let rest = '';
    process.stdin.setEncoding('utf8').on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      lines.forEach((line) => supervisor.command(line));
    });
    process.stdin.on('end', () => supervisor.abandon());
  });
}

if (cluster.isPrimary) supervise();
else if (env.FAULTS_HTTP === '1') serveHttp();
else serve();
