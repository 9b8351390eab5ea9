'use strict';
// Runs the command line in a folder and a process group of its own.

const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { commandOf, deadline, ours, processesOf, request, until } = require('../support/index.cjs');

const BIN = path.join(__dirname, '..', '..', '..', 'node-addon', 'bin', 'cluster-rs.cjs');
const SERVER = fs.readFileSync(path.join(__dirname, 'server.js'), 'utf8');
const FOREIGN = ['NODE_OPTIONS', 'NODE_TEST_CONTEXT', 'NODE_CHANNEL_FD', 'NODE_UNIQUE_ID', 'NODE_V8_COVERAGE',
  'NODE_CLUSTER_SCHED_POLICY', 'NODE_APP_INSTANCE', 'FORCE_COLOR', 'NO_COLOR'];

class Run {
  stdout = '';
  stderr = '';
  ended = null;
  #looks = new Set();

  constructor({ args = [], files = {}, env = {}, command, stdio = ['ignore', 'pipe', 'pipe'] }) {
    this.directory = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-rs-cli-')));
    for (const [name, text] of Object.entries({ 'server.js': SERVER, ...files })) {
      fs.mkdirSync(path.dirname(path.join(this.directory, name)), { recursive: true });
      fs.writeFileSync(path.join(this.directory, name), text);
    }
    const clean = { ...process.env, TERM: 'xterm-256color' };
    for (const name of FOREIGN) delete clean[name];
    const line = [process.execPath, BIN, ...args];
    const [file, ...rest] = command === undefined ? line : command(line);
    this.process = spawn(file, rest, {
      cwd: this.directory, detached: true, env: { ...clean, CLI_TEST: this.directory, ...env }, stdio,
    });
    this.pid = this.process.pid;
    for (const name of ['stdout', 'stderr']) {
      this.process[name]?.setEncoding('utf8').on('data', (text) => {
        this[name] += text;
        this.#changed();
      });
    }
    this.process.on('error', (error) => { this.stderr += error; });
    this.closed = new Promise((resolve) => this.process.on('close', (code, signal) => {
      this.ended = { code, signal };
      this.#changed();
      resolve();
    }));
  }

  #changed() {
    for (const look of [...this.#looks]) look();
  }

  /** The match of `pattern` in what was printed so far, as soon as there is one; `count` of them as a list. */
  async wait(pattern, { on = 'stdout', count } = {}) {
    const look = () => {
      if (count === undefined) return pattern.exec(this[on]);
      const found = [...this[on].matchAll(new RegExp(pattern, 'g'))];
      return found.length >= count ? found : null;
    };
    let result;
    await deadline(new Promise((resolve, reject) => {
      const again = () => {
        result = look();
        if (!result && !this.ended) return;
        this.#looks.delete(again);
        if (result) resolve();
        else reject(new Error(`it ended without ${pattern} on ${on}`));
      };
      this.#looks.add(again);
      again();
    }), `${pattern} on ${on}`);
    return result;
  }

  /** The port that all workers listen on. */
  async port() {
    return Number((await this.wait(/listening on \S+:([0-9]+) /))[1]);
  }

  kill(signal = 'SIGTERM', pid = this.pid) {
    process.kill(pid, signal);
  }

  processes() {
    return processesOf(`CLI_TEST=${this.directory}`, this.pid);
  }

  /** What cluster-rs itself said on a stream, without its name. */
  said(on = 'stderr') {
    return this[on].split('\n').filter((line) => line.startsWith('cluster-rs: ')).map((line) => line.slice(12));
  }

  write(name, text) {
    fs.writeFileSync(path.join(this.directory, name), text);
  }
}

/**
 * Runs `body` beside `cluster-rs <args>`, waits for its end, and fails when a process is left. Gives the run, and in
 * it `code`.
 */
async function cli(options, body = async () => {}) {
  const run = new Run(options);
  try {
    await body(run);
    await deadline(run.closed, 'the end of cluster-rs');
    await until(() => run.processes().length === 0, 'the end of all processes').catch((error) => {
      throw new Error(`${error.message}: ${run.processes().map((pid) => `${pid} ${commandOf(pid)}`).join('; ')}`);
    });
    run.code = run.ended.code ?? run.ended.signal;
    return run;
  } catch (error) {
    const printed = ['stdout', 'stderr'].map((name) => `${name}:\n${run[name].slice(-2500)}`).join('\n');
    error.message += `\nexit ${JSON.stringify(run.ended)}\n${printed}`;
    throw error;
  } finally {
    for (const pid of run.processes()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself.
      }
    }
    fs.rmSync(run.directory, { recursive: true, force: true });
  }
}

/** Starts a request that lasts until the file `release` is there; resolves, within a list, when a worker has it. */
async function begin(started, port) {
  const answer = request(port, { path: '/hold?value=release' }).catch((error) => error);
  await started.wait(/holding for release/);
  return [answer];
}

/**
 * The command line inside a terminal of its own. script(1) runs it in the user's shell, and dash, which got the
 * terminal's Ctrl-C as well, would exit with 130 however well the command ended: hence `exec`.
 */
const onTerminal = (line) => ['script', '-qec', `exec '${line.join("' '")}'`, '/dev/null'];
const hasScript = spawnSync('script', ['--version']).status === 0;
/** The options of a test that needs a terminal. */
const terminal = { skip: ours.skip || (!hasScript && 'there is no script(1)') };

module.exports = { begin, cli, onTerminal, terminal };
