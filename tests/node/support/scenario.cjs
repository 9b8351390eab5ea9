'use strict';
// A scenario is a primary in a process of its own, with its workers. README.md in this folder says how to write one.

const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { DEADLINE, deadline, until } = require('./clients.cjs');
const { commandOf, processesOf } = require('./processes.cjs');

const MODULE = process.env.CLUSTER_MODULE || 'cluster-rs';
const isStock = MODULE === 'node:cluster' || MODULE === 'cluster';
const PREFIX = 'cluster-rs-test-';

// A method says its name first, which makes it no expression.
function sourceOf(method) {
  if (method === undefined) return 'undefined';
  const text = method.toString();
  return /^(async\s+)?(primary|worker)\s*\(/.test(text) ? `({ ${text} }).${method.name}` : `(${text})`;
}

function mainScript({ primary, worker, data, commands, module: name = MODULE }) {
  return `'use strict';
require(${JSON.stringify(path.join(__dirname, 'inside.cjs'))}).enter({
  module: ${JSON.stringify(name)},
  data: ${JSON.stringify(data) ?? 'undefined'},
  commands: ${Boolean(commands)},
  primary: ${sourceOf(primary)},
  worker: ${sourceOf(worker)},
});
`;
}

// A folder for the scenario's files and sockets, from which the packages of the tests can be required.
function makeDirectory(scenario) {
  const directory = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), PREFIX)));
  fs.chmodSync(directory, 0o755); // A worker may run as another user.
  const made = spawnSync('mkfifo', ['-m', '666', path.join(directory, 'reports')]);
  if (made.status !== 0) throw new Error(`mkfifo: ${made.error ?? made.stderr}`);
  fs.symlinkSync(path.join(__dirname, '..', 'node_modules'), path.join(directory, 'node_modules'));
  const files = { ...scenario.files };
  if (scenario.primary) files['scenario.cjs'] = mainScript(scenario);
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
    fs.writeFileSync(path.join(directory, name), text);
  }
  return directory;
}

class Run {
  constructor(scenario) {
    this.scenario = scenario;
    this.directory = makeDirectory(scenario);
    this.reports = [];
    this.own = []; // What the scenario's script and drain() say.
    this.taken = new Set();
    this.ended = null;
    this.changed = new Set();
    this.#readReports();
    this.#spawn();
  }

  #readReports() {
    const { O_RDWR, O_NONBLOCK } = fs.constants;
    this.fifo = fs.openSync(path.join(this.directory, 'reports'), O_RDWR | O_NONBLOCK);
    this.pipe = new net.Socket({ fd: this.fifo, readable: true, writable: false });
    let text = '';
    this.pipe.setEncoding('utf8');
    this.pipe.on('data', (data) => {
      const lines = (text + data).split('\n');
      text = lines.pop();
      for (const line of lines) {
        const { file, ...one } = JSON.parse(line);
        if (file) one.values = JSON.parse(fs.readFileSync(path.join(this.directory, file), 'utf8'));
        (one.name.startsWith('#') ? this.own : this.reports).push(one);
      }
      this.#change();
    });
  }

  #spawn() {
    const { command = process.execPath, execArgv = [], entry = 'scenario.cjs', args = [] } = this.scenario;
    const { env = {}, stdio = [] } = this.scenario;
    const clean = { ...process.env };
    // The test runner's own, and whatever the caller of the tests had set for its Node.
    for (const name of ['NODE_OPTIONS', 'NODE_TEST_CONTEXT', 'NODE_CHANNEL_FD', 'NODE_UNIQUE_ID', 'NODE_V8_COVERAGE',
      'NODE_CLUSTER_SCHED_POLICY', 'CLUSTER_RS_ADDON']) delete clean[name];
    this.process = spawn(command, [...execArgv, ...(entry === null ? [] : [entry]), ...args], {
      cwd: this.directory,
      detached: true, // A group of its own, by which all that belongs to it is found.
      env: { ...clean, SCENARIO: this.directory, SUPPORT: __dirname, ...env },
      stdio: ['ignore', 'pipe', 'pipe', ...stdio, ...(this.scenario.commands ? ['ipc'] : [])],
    });
    this.pid = this.process.pid;
    this.stdout = '';
    this.stderr = '';
    for (const name of ['stdout', 'stderr']) {
      this.process[name].setEncoding('utf8');
      this.process[name].on('data', (data) => {
        this[name] += data;
        this.#change();
      });
    }
    this.process.on('error', (error) => { this.stderr += String(error); });
    this.exit = new Promise((resolve) => {
      this.process.on('exit', (code, signal) => {
        this.ended = { code, signal };
        resolve(this.ended);
        this.#change();
      });
    });
  }

  #change() {
    for (const look of [...this.changed]) look();
  }

  // Waits until `look` gives something; every report, all output and the end of the primary are looked at.
  wait(look, what, milliseconds = DEADLINE) {
    return deadline(new Promise((resolve) => {
      const again = () => {
        const found = look();
        if (!found) return;
        this.changed.delete(again);
        resolve(found);
      };
      this.changed.add(again);
      again();
    }), what, milliseconds);
  }

  // The values of each report of this name that has arrived.
  all(name) {
    return this.reports.filter((one) => one.name === name).map(({ values }) => values);
  }

  // The first value of the only report of this name.
  one(name) {
    const found = this.all(name);
    if (found.length !== 1) throw new Error(`${found.length} reports '${name}' instead of one`);
    return found[0][0];
  }

  // The next report of this name that was not taken yet: { name, pid, values }.
  async next(name) {
    const unread = () => this.reports.find((one) => one.name === name && !this.taken.has(one));
    const found = await this.wait(() => unread() ?? (this.ended ? 'ended' : undefined), `report '${name}'`);
    const one = found === 'ended' ? (await this.drain(), unread()) : found;
    if (one === undefined) throw new Error(`the primary ended before it reported '${name}'`);
    this.taken.add(one);
    return one;
  }

  // A report of our own travels behind all others.
  async drain() {
    const mark = `#drained ${Math.random()}`;
    fs.writeSync(this.fifo, `${JSON.stringify({ name: mark, values: [] })}\n`);
    await this.wait(() => this.own.some((one) => one.name === mark), 'the end of the reports');
  }

  tell(name, value) {
    this.process.send({ tell: name, value });
  }

  kill(signal = 'SIGTERM') {
    this.process.kill(signal);
  }

  processes() {
    return processesOf(`SCENARIO=${this.directory}`, this.pid);
  }

  // Waits for the end and looks at what is left; gives { code, signal }.
  async finish() {
    const ended = await deadline(this.exit, 'the end of the primary');
    await until(() => this.processes().length === 0, 'the end of all processes').catch((error) => {
      const left = this.processes().map((pid) => `${pid} ${commandOf(pid)}`);
      throw new Error(`${error.message}; left: ${left.join('; ')}`);
    });
    await this.drain();
    for (const { values: [{ workers, descriptors }] } of this.own.filter(({ name }) => name === '#exit')) {
      if (workers === 0 && descriptors.length > 0 && !this.scenario.leaves) {
        throw new Error(`descriptors stayed open in the primary: ${descriptors.join(', ')}`);
      }
    }
    return ended;
  }

  log() {
    const reports = this.reports
      .map(({ name, pid, values }) => `  ${pid} ${name} ${JSON.stringify(values)}`.slice(0, 500)).join('\n');
    const ended = JSON.stringify(this.ended);
    return `\nexit: ${ended}\nreports:\n${reports}\nstdout:\n${this.stdout}\nstderr:\n${this.stderr}`;
  }

  close() {
    for (const pid of this.processes()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself.
      }
    }
    this.pipe.destroy();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

// Plays the scenario: starts it, runs the body beside it, waits for its end and looks that nothing is left. The primary
// has to end with `exit` (a code or the name of a signal; 0 when not said). Gives the Run, whose reports are complete.
async function play(scenario, body = () => {}) {
  const run = new Run(scenario);
  try {
    await body(run);
    if (scenario.commands && run.process.connected) run.tell('#end');
    const { code, signal } = await run.finish();
    const expected = scenario.exit ?? 0;
    if ((signal ?? code) !== expected) throw new Error(`the primary ended with ${signal ?? code}, not ${expected}`);
    return run;
  } catch (error) {
    error.message += run.log();
    throw error;
  } finally {
    run.close();
  }
}

module.exports = { MODULE, Run, isStock, play };
