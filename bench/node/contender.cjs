'use strict';
// Starts and stops what is measured: the server with one of the two modules, and the load.

const { spawn, spawnSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const readline = require('node:readline');

const DEADLINE = 30_000;

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${DEADLINE / 1000} s`)), DEADLINE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A child process that talks in lines of JSON; what is said before anybody asks is kept.
class Talker {
  constructor(name, file, args) {
    this.name = name;
    this.child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.child.stdin.on('error', () => {});
    this.exit = once(this.child, 'exit');
    this.exit.catch(() => {});
    this.lines = readline.createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async hear(key) {
    const { value, done } = await within(this.lines.next(), `${this.name}: '${key}'`);
    if (done) {
      const [code, signal] = await within(this.exit, `${this.name}: its exit`);
      throw new Error(`${this.name} ended (${signal ?? code}) before it said '${key}'`);
    }
    const message = JSON.parse(value);
    if (!(key in message)) throw new Error(`${this.name} said ${value} instead of '${key}'`);
    return message;
  }

  async ended() {
    const [code, signal] = await within(this.exit, `${this.name}: its exit`);
    if (code !== 0) throw new Error(`${this.name} ended with ${signal ?? code}`);
  }
}

class Server extends Talker {
  static async start(contender, workers) {
    const server = new Server(contender.name, contender.node, [
      path.join(__dirname, 'server.cjs'), contender.module, String(workers),
    ]);
    try {
      Object.assign(server, await server.hear('port'));
    } catch (error) {
      server.child.kill('SIGKILL');
      throw error;
    }
    return server;
  }

  tell(command) {
    this.child.stdin.write(`${command}\n`);
  }

  // What happened during its life. The primary ends its workers itself.
  async stop() {
    this.tell('quit');
    const counts = await this.hear('kills');
    await this.ended();
    return counts;
  }

  // The workers see the end of their primary and go too.
  async abandon() {
    this.child.kill('SIGKILL');
    await this.exit;
  }
}

// Runs the load against a server. atWindow() is called when the measured window begins.
async function load(program, server, options, atWindow) {
  const words = Object.entries(options).map(([name, value]) => `${name}=${value}`);
  const generator = new Talker('the load', program, [String(server.port), ...words]);
  try {
    await generator.hear('window');
    atWindow?.();
    const result = await generator.hear('answered');
    await generator.ended();
    return result;
  } finally {
    generator.child.kill('SIGKILL');
  }
}

// Compiles load.c; returns the program and what takes it away again.
function buildLoad() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-bench-'));
  const program = path.join(folder, 'load');
  const remove = () => fs.rmSync(folder, { recursive: true, force: true });
  const compiler = process.env.CC || 'cc';
  const result = spawnSync(compiler, ['-O2', '-o', program, path.join(__dirname, 'load.c')], { encoding: 'utf8' });
  if (result.status !== 0) {
    remove();
    throw new Error(`the load needs a C compiler; ${compiler}: ${result.error?.message ?? result.stderr}`);
  }
  return { program, remove };
}

module.exports = { Server, load, buildLoad };
