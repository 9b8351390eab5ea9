'use strict';

// A cluster under remote control. The test process is the client and the judge; `startRig` starts a primary of its
// own, which forks workers that run a function of the test. Such functions travel as source text: they see `require`
// and their arguments, nothing of the file around them.

const { execFileSync, fork } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { connectionsAmong, deadline, descriptors, isAlive, MODULE, until } = require('../support/index.cjs');

// What the settings and leftovers of the caller would change in a primary.
const UNWANTED = [
  'NODE_OPTIONS', 'NODE_TEST_CONTEXT', 'NODE_CHANNEL_FD', 'NODE_UNIQUE_ID', 'NODE_CLUSTER_SCHED_POLICY',
];

const countConnections = () => connectionsAmong(descriptors()).length;

function cleanEnvironment(more) {
  const env = { ...process.env, ...more, CLUSTER_MODULE: MODULE };
  for (const name of UNWANTED) if (!more?.[name]) delete env[name];
  return env;
}

class Rig {
  constructor(t, options) {
    this.events = [];
    this.waiters = new Set();
    this.pending = new Map();
    this.sequence = 0;
    this.workerPids = new Set();
    this.connectionsBefore = countConnections();
    this.finished = false;
    this.expectPrimary = 0;
    this.primary = fork(path.join(__dirname, 'rig-primary.cjs'), [], {
      env: cleanEnvironment(options.env),
      execArgv: options.execArgv || [],
      serialization: 'advanced',
      cwd: options.cwd,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...(options.stdio || [])],
    });
    this.exited = new Promise((resolve) => this.primary.once('exit', (code, signal) => resolve({ code, signal })));
    this.exited.then(({ code, signal }) => {
      for (const { reject } of this.pending.values()) reject(new Error(`the primary is gone: ${code} ${signal}`));
      this.pending.clear();
      this.receive({ event: 'end of the primary', code, signal });
    });
    this.primary.on('message', (message) => this.receive(message));
    t.after(() => this.finish());
  }

  receive(message) {
    if (message.answer !== undefined) {
      const waiting = this.pending.get(message.answer);
      this.pending.delete(message.answer);
      if (waiting && message.error) waiting.reject(new Error(message.error));
      else if (waiting) waiting.resolve(message.value);
      return;
    }
    if (message.event === 'fork') this.workerPids.add(message.pid);
    this.events.push(message);
    for (const waiter of [...this.waiters]) waiter(message);
  }

  request(operation, details) {
    const seq = this.sequence++;
    const promise = new Promise((resolve, reject) => this.pending.set(seq, { resolve, reject }));
    this.primary.send({ operation, seq, ...details }, () => {});
    return deadline(promise, operation);
  }

  // The first event, past or future, whose name is or matches this and that fulfils the condition.
  event(name, condition = () => true, milliseconds) {
    const fits = (event) => (name === event.event || (name instanceof RegExp && name.test(event.event))) &&
      condition(event);
    const seen = this.events.find(fits);
    if (seen) return Promise.resolve(seen);
    let waiter;
    const promise = new Promise((resolve, reject) => {
      waiter = (event) => {
        const { event: what, code, signal } = event;
        if (what === 'end of the primary') reject(new Error(`the primary ended (${code ?? signal}) before ${name}`));
        else if (fits(event)) resolve(event);
      };
      this.events.filter((past) => past.event === 'end of the primary').forEach(waiter);
      this.waiters.add(waiter);
    });
    return deadline(promise, `event ${name}`, milliseconds).finally(() => this.waiters.delete(waiter));
  }

  // What a worker said with w.tell(): resolves to the first that fulfils the condition.
  async told(condition = () => true, id = undefined) {
    const event = await this.event('tell', (e) => (id === undefined || e.id === id) && condition(e.value));
    return event.value;
  }

  allTold(condition = () => true) {
    return this.events.filter((e) => e.event === 'tell' && condition(e.value)).map((e) => e.value);
  }

  // Runs a function in the primary, as (cluster, ...args), and returns its result.
  inPrimary(fn, ...args) {
    return this.request('primary', { source: String(fn), args });
  }

  // Runs a function in a worker, as (w, ...args), and returns its result.
  inWorker(id, fn, ...args) {
    return this.request('worker', { id, source: String(fn), args });
  }

  async fork(count = 1, { listeners = 1, env } = {}) {
    const ids = await this.request('fork', { count, env });
    for (const id of ids) {
      const { event } = await this.event(/^(listening|exit)$/, (e) => e.id === id &&
        (e.event === 'exit' || this.countListening(id) >= listeners));
      if (event === 'exit') throw new Error(`worker ${id} ended before it listened`);
    }
    return ids;
  }

  countListening(id) {
    return this.events.filter((e) => e.event === 'listening' && e.id === id).length;
  }

  stats() {
    return this.inPrimary((cluster) => cluster.stats());
  }

  pid(id) {
    return this.events.find((e) => e.event === 'fork' && e.id === id).pid;
  }

  kill(id, signal = 'SIGKILL') {
    process.kill(this.pid(id), signal);
  }

  // A worker whose JavaScript does nothing more until it is killed; it sleeps, so that it costs no processor.
  async blockForEver(id) {
    this.inWorker(id, (w) => {
      w.tell({ blocked: true });
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    }).catch(() => {});
    await this.told((value) => value.blocked, id);
  }

  // The primary's JavaScript stands still until what this gives is called.
  async blockPrimary() {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-rs-data-'));
    const fifo = path.join(directory, 'release');
    execFileSync('mkfifo', [fifo]);
    const fd = fs.openSync(fifo, 'r+');
    const blocked = this.inPrimary((cluster, file) => {
      process.send({ event: 'blocking', id: 0 });
      return new Promise((resolve) => {
        setImmediate(() => {
          const { closeSync, openSync, readSync } = require('node:fs');
          const own = openSync(file, 'r');
          readSync(own, Buffer.alloc(1));
          closeSync(own);
          resolve();
        });
      });
    }, fifo);
    await this.event('blocking');
    return async () => {
      fs.writeSync(fd, 'x');
      await blocked.finally(() => {
        fs.closeSync(fd);
        fs.rmSync(directory, { recursive: true });
      });
    };
  }

  get address() {
    return this.events.find((e) => e.event === 'listening').address;
  }

  get port() {
    return this.address.port;
  }

  // Ends the cluster in an orderly way and checks that nothing of it stays behind.
  async finish() {
    if (this.finished) return;
    this.finished = true;
    const problems = [];
    try {
      if (this.primary.connected) {
        const { leaked, code } = await this.request('finish', {});
        if (leaked.length > 0) problems.push(`descriptors left open in the primary: ${leaked.join(', ')}`);
        if (code) problems.push(code);
        this.primary.disconnect();
      }
      const { code, signal } = await deadline(this.exited, 'end of the primary');
      if (this.expectPrimary !== (signal || code)) problems.push(`the primary ended with ${signal || code}`);
      await until(() => ![...this.workerPids].some(isAlive), 'end of all workers');
      await until(() => countConnections() <= this.connectionsBefore, 'connections of the test are closed');
    } catch (error) {
      problems.push(error.message);
    } finally {
      if (this.primary.exitCode === null && this.primary.signalCode === null) this.primary.kill('SIGKILL');
      for (const pid of this.workerPids) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
    }
    if (problems.length > 0) throw new Error(problems.join('; '));
  }
}

// `env`, `execArgv`, `cwd` and `stdio` (from descriptor 4 on) are the primary's, `settings` the cluster's.
async function startRig(t, { workers = 2, serve, options = {}, settings = {}, listeners = 1, ...primary }) {
  const rig = new Rig(t, primary);
  await rig.request('setup', { serve: String(serve), options, settings });
  await rig.fork(workers, { listeners });
  return rig;
}

module.exports = { startRig };
