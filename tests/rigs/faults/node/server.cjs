'use strict';

// A server of workers/node.cjs, started and spoken with as ../README.md says.

const { spawn } = require('node:child_process');
const path = require('node:path');
const readline = require('node:readline');

const DEADLINE = 30_000;
const PACKAGE = path.join(__dirname, '..', '..', '..', '..', 'node-addon');

/** What is compared: the package with either mechanism, and Node's own module. */
const CONTENDERS = {
  kernel: { name: 'cluster-rs kernel', module: PACKAGE, mechanism: 'kernel' },
  passed: { name: 'cluster-rs passed', module: PACKAGE, mechanism: 'passed' },
  stock: { name: 'stock node:cluster', module: 'node:cluster', mechanism: 'stock' },
};

class Server {
  #waiting = new Set();
  events = [];
  /** Ids of the workers that live, the oldest first. */
  workers = new Map();

  constructor(contender, { workers, env = {} }) {
    const { module, mechanism } = CONTENDERS[contender];
    const { CL_MECHANISM: _mechanism, NODE_OPTIONS: _options, ...clean } = process.env;
    this.child = spawn(process.execPath, [path.join(__dirname, '..', 'workers', 'node.cjs')], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: {
        ...clean, FAULTS_WORKERS: `${workers}`, FAULTS_POLICY: 'rr',
        FAULTS_MECHANISM: mechanism, FAULTS_MODULE: module, ...env,
      },
    });
    this.child.stdin.on('error', () => {});
    this.ended = new Promise((resolve) => this.child.once('close', (code, signal) => resolve({ code, signal })));
    this.ended.then(() => this.#heard({ event: 'end' }));
    readline.createInterface({ input: this.child.stdout }).on('line', (line) => this.#heard(JSON.parse(line)));
  }

  #heard(event) {
    if (event.event === 'listening') this.workers.set(event.id, event);
    if (event.event === 'exit') this.workers.delete(event.id);
    this.events.push({ ...event, at: performance.now() });
    for (const look of this.#waiting) look();
  }

  /** The first event, past or to come, that fits. */
  event(name, fits = () => true, milliseconds = DEADLINE) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        settle(value);
      };
      const look = () => {
        const found = this.events.find((event) => event.event === name && fits(event));
        if (found) finish(resolve, found);
        else if (this.events.at(-1)?.event === 'end') finish(reject, new Error(`the server ended before '${name}'`));
      };
      const timer = setTimeout(() => finish(reject, new Error(`no '${name}' within ${milliseconds} ms`)), milliseconds);
      this.#waiting.add(look);
      look();
    });
  }

  /** Resolves with the port when all workers listen; undefined where the machine does not allow this contender. */
  async start(count) {
    const refused = this.event('unavailable').catch(() => {});
    const all = (async () => {
      for (const seen = new Set(); seen.size < count;) {
        seen.add((await this.event('listening', ({ id }) => !seen.has(id))).id);
      }
      return this.events.find(({ event }) => event === 'listening').port;
    })();
    const port = await Promise.race([all, refused.then(() => undefined)]);
    if (port === undefined) await this.ended;
    return port;
  }

  command(line) {
    this.child.stdin.write(`${line}\n`);
  }

  /** Asks all to leave, and sees that they did. */
  async stop() {
    this.command('stop');
    const timer = setTimeout(() => this.child.stdin.end(), DEADLINE);
    const { code, signal } = await this.ended;
    clearTimeout(timer);
    if (code !== 0) throw new Error(`the server ended with ${signal ?? code}`);
  }

  /** Whatever state it is in. */
  async kill() {
    this.child.stdin.end();
    await this.ended;
  }
}

module.exports = { CONTENDERS, Server };
