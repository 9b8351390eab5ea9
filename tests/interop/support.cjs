'use strict';
// Primaries and workers in every language: program.c (with the library, or the header alone), program.rs, worker.cjs.

const assert = require('node:assert/strict');
const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const support = require('../node/support/index.cjs');

const { ask, commandOf, connect, connectionsAmong, deadline, descriptors, processesOf, receive, until } = support;

const REGISTER = path.join(__dirname, '../../node-addon/register.cjs');
const SCRIPT = path.join(__dirname, 'worker.cjs');
// run.sh says where it built them.
const { INTEROP_C: C, INTEROP_HEADER: HEADER, INTEROP_RUST: RUST } = process.env;

// How a worker of each language is started; addresses and options follow.
const WORKERS = {
  c: [C, 'worker'],
  header: [HEADER, 'worker'],
  rust: [RUST, 'worker'],
  node: [process.execPath, '--require', REGISTER, SCRIPT],
};
const PRIMARIES = { c: C, header: HEADER, rust: RUST };
const LANGUAGES = Object.keys(WORKERS);

// The environment for what is started here: none of the caller's Node's or cluster's words.
// Of the programs: nothing of this process's own. What is given to a worker before it asks is what most of the tests are about, and
// exact turns; 'turns' tries what there is without a choice, too.
function environment(more) {
  const clean = { ...process.env };
  for (const name of Object.keys(clean)) {
    if (/^(NODE_|CL_|CLUSTER_|npm_)/i.test(name)) delete clean[name];
  }
  return { ...clean, CL_MECHANISM: 'passed', ...more };
}

// "c 1 0 4711", as every worker greets.
function greeting(text) {
  const found = text.match(/^(\w+) (\d+) (\d+) (\d+)\n/);
  assert.ok(found, `no greeting but ${JSON.stringify(text)}`);
  return { language: found[1], id: Number(found[2]), slot: Number(found[3]), pid: Number(found[4]) };
}

const whoAnswers = async (place) => greeting(await ask(place));

// Asks as often: each of the names must answer, in an order that repeats itself. A process that the machine lets stand
// still for 60 ms is passed by, and rightly; of some tries one has to be undisturbed.
async function takeTurns(ask, names, count) {
  let answers;
  const isExact = () => {
    const round = answers.slice(0, names.length);
    if (`${[...round].sort()}` !== `${[...names].sort()}`) return false;
    return answers.every((name, i) => name === round[i % names.length]);
  };
  for (let tries = 0; tries < 5; tries += 1) {
    answers = [];
    for (let i = 0; i < count; i += 1) answers.push(await ask());
    if (isExact()) return;
  }
  assert.fail(`not in turns: ${answers}`);
}

// The workers with these ids take turns; gives the answers of one round.
async function inTurns(place, ids, count) {
  const seen = new Map();
  await takeTurns(async () => {
    const answered = await whoAnswers(place);
    seen.set(answered.id, answered);
    return answered.id;
  }, ids, count);
  return ids.map((id) => seen.get(id));
}

// What a socket says from now on, as soon as it matches; or all, when it ends before.
function untilText(socket, pattern, what) {
  return deadline(new Promise((resolve) => {
    let text = '';
    socket.on('data', (data) => {
      text += data;
      if (pattern.test(text)) resolve(text);
    });
    socket.once('close', () => resolve(text));
  }), what);
}

// A connection whose worker has taken it and waits for what the client wants.
async function hold(place) {
  const socket = await connect(place);
  const all = receive(socket).catch((error) => error.code);
  const first = await untilText(socket, /\n/, 'a greeting');
  return { socket, all, ...greeting(first) };
}

// The first connection that this worker takes.
async function holdBy(place, id) {
  return until(async () => {
    const held = await hold(place);
    if (held.id === id) return held;
    held.socket.end();
    await held.all;
    return undefined;
  }, `an answer of worker ${id}`);
}

// Has a worker take a connection and do nothing else until the pipe is opened for writing.
async function block(primary, { id, port }) {
  const pipe = primary.pipe();
  const held = await holdBy(port, id);
  held.socket.write(`block ${pipe}\n`);
  assert.equal(await untilText(held.socket, /\n/, 'the word that it is blocked'), 'blocked\n');
  return { ...held, release: () => fs.writeFileSync(pipe, '') };
}

class Primary {
  constructor(language, settings, env) {
    this.directory = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-interop-')));
    this.mark = `INTEROP=${this.directory}`;
    this.events = [];
    this.answers = [];
    this.waiting = new Set();
    this.workers = [];
    this.output = '';
    this.process = spawn(PRIMARIES[language], ['primary', ...settings], {
      cwd: this.directory,
      detached: true, // A group of its own, by which all that belongs to it is found.
      env: environment({ INTEROP: this.directory, LD_LIBRARY_PATH: process.env.INTEROP_LIBRARY, ...env }),
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.pid = this.process.pid;
    this.process.on('error', (error) => { this.output += String(error); });
    this.process.stdin.on('error', () => {}); // It ended; what is waited for says so.
    this.exit = new Promise((resolve) => {
      this.process.on('exit', (code, signal) => {
        this.ended = { code, signal };
        resolve(this.ended);
        this.#look();
      });
    });
    let text = '';
    this.process.stdout.setEncoding('utf8').on('data', (data) => {
      const lines = (text + data).split('\n');
      text = lines.pop();
      for (const line of lines) {
        const one = JSON.parse(line);
        (one.did ? this.answers : this.events).push(one);
      }
      this.#look();
    });
    this.process.stderr.setEncoding('utf8').on('data', (data) => { this.output += data; });
  }

  #look() {
    for (const look of [...this.waiting]) look();
  }

  // Waits until `look` gives something; it is asked again after each line and at the end of the primary.
  wait(look, what) {
    return deadline(new Promise((resolve, reject) => {
      const again = () => {
        const found = look();
        if (!found && !this.ended) return;
        this.waiting.delete(again);
        if (found) resolve(found);
        else reject(new Error(`the primary ended before ${what}`));
      };
      this.waiting.add(again);
      again();
    }), what);
  }

  async begin() {
    await this.#answer(0);
    this.before = connectionsAmong(descriptors(this.pid));
    return this;
  }

  #answer(number) {
    return this.wait(() => this.answers[number], `answer ${number}`);
  }

  // Commands are answered in order, so the answer's number is known when the command is sent.
  #sent = 0;

  async tell(...fields) {
    this.#sent += 1;
    const number = this.#sent;
    this.process.stdin.write(`${fields.join('\t')}\n`);
    const answer = await this.#answer(number);
    assert.equal(answer.did, fields[0]);
    return answer;
  }

  async start(command) {
    const { code: id } = await this.tell('spawn', ...command);
    assert.ok(id > 0, `spawn: ${id}`);
    const { pid } = await this.next('fork', id);
    const worker = { id, pid, ends: { code: 0, signal: 0 } };
    this.workers.push(worker);
    return worker;
  }

  // A worker of a language, as soon as it listens everywhere: { id, pid, port, ports }.
  async spawn(language, ...addresses) {
    const worker = await this.start([...WORKERS[language], ...addresses]);
    const wanted = addresses.filter((address) => !address.startsWith('--'));
    worker.language = language;
    worker.ports = [];
    for (const number of wanted.keys()) worker.ports.push((await this.next('listening', worker.id, number)).port);
    [worker.port] = worker.ports;
    return worker;
  }

  // A worker in Node with a script of the test's own.
  startNode(script, ...options) {
    const file = path.join(this.directory, `script${this.workers.length}.cjs`);
    fs.writeFileSync(file, `'use strict';\n${script}\n`);
    return this.start([process.execPath, ...options, '--require', REGISTER, file]);
  }

  seen(name, id) {
    return this.events.filter((one) => one.event === name && (id === undefined || one.id === id));
  }

  // The event of this name and worker, the number-th (from 0).
  next(name, id, number = 0) {
    return this.wait(() => this.seen(name, id)[number], `event '${name}' of worker ${id}`);
  }

  // Waits for what somebody writes to the standard error, which all processes of it share.
  said(pattern) {
    return until(() => pattern.test(this.output), `the output ${pattern}`);
  }

  async message(id, number = 0) {
    return Buffer.from((await this.next('message', id, number)).data, 'hex');
  }

  async send(id, data) {
    assert.equal((await this.tell('send', id, Buffer.from(data).toString('hex'))).code, 0);
  }

  info(id) {
    return this.tell('info', id);
  }

  // Ends a worker by a signal, which is then how it is expected to have ended.
  async kill({ id, pid, ...worker }, signal = 'SIGKILL') {
    this.workers.find((one) => one.id === id).ends = { code: -1, signal: os.constants.signals[signal] };
    process.kill(pid, signal);
    await this.next('exit', id);
    return worker;
  }

  // A named pipe on which a worker can be made to wait.
  pipe() {
    const name = path.join(this.directory, `pipe${this.pipes = (this.pipes ?? 0) + 1}`);
    execFileSync('mkfifo', [name]);
    return name;
  }

  processes() {
    return processesOf(this.mark, this.pid);
  }

  // Everybody is asked to leave; the primary gives back what it had for them, and ends.
  async finish() {
    assert.equal((await this.tell('stop', 20_000)).code, 0);
    assert.equal((await this.tell('run')).code, 0);
    this.#checkEnds();
    assert.deepEqual(connectionsAmong(descriptors(this.pid)).length, this.before.length, 'descriptors of the primary');
    this.process.stdin.end();
    assert.deepEqual(await deadline(this.exit, 'the end of the primary'), { code: 0, signal: null });
    await this.#checkNothingLeft();
  }

  // For a primary that the test itself brought to its end.
  async finished(how = { code: 0, signal: null }) {
    assert.deepEqual(await deadline(this.exit, 'the end of the primary'), how);
    await this.#checkNothingLeft();
  }

  #checkEnds() {
    for (const { id, language, ends } of this.workers) {
      const [{ code, signal } = {}] = this.seen('exit', id);
      assert.deepEqual({ code, signal }, ends, `the end of worker ${id}, ${language}`);
    }
    assert.equal(this.seen('exit').length, this.seen('fork').length);
    // That a listen was refused is told in any case, and the tests ask for such.
    const told = this.seen('warning').filter(({ data }) => !`${Buffer.from(data, 'hex')}`.startsWith('it cannot listen'));
    assert.deepEqual(told, []);
  }

  async #checkNothingLeft() {
    await until(() => this.processes().length === 0, 'the end of all processes').catch((error) => {
      const left = this.processes().map((pid) => `${pid} ${commandOf(pid)}`);
      throw new Error(`${error.message}; left: ${left.join('; ')}`);
    });
  }

  log() {
    const recent = [...this.events, ...this.answers].map((one) => JSON.stringify(one).slice(0, 200));
    return `\nprimary: ${JSON.stringify(this.ended)}\n${recent.join('\n')}\n${this.output}`;
  }

  close() {
    for (const pid of this.processes()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself.
      }
    }
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

// Runs the body with a primary, ends it, and looks that nothing of it is left.
async function withPrimary({ language = 'c', policy = 'rr', respawn, env, ends } = {}, body) {
  const primary = new Primary(language, [policy, ...(respawn ? ['respawn'] : [])], env);
  try {
    await primary.begin();
    await body(primary);
    if (ends) await primary.finished(ends === true ? undefined : ends);
    else await primary.finish();
  } catch (error) {
    error.stack += primary.log(); // What the reporter shows.
    throw error;
  } finally {
    primary.close();
  }
}

// Stops a process, and waits until each of its threads stands still.
async function freeze(pid) {
  process.kill(pid, 'SIGSTOP');
  const states = () => fs.readdirSync(`/proc/${pid}/task`).map((thread) => {
    const text = fs.readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8');
    return text[text.lastIndexOf(')') + 2];
  });
  await until(() => states().every((state) => state === 'T'), `process ${pid} stands still`);
}

const thaw = (pid) => process.kill(pid, 'SIGCONT');

// One worker of each language on the same addresses.
async function spawnAll(primary, ...addresses) {
  const workers = [];
  for (const language of LANGUAGES) workers.push(await primary.spawn(language, ...addresses));
  return workers;
}

// Whether a process catches a signal.
function catches(pid, signal) {
  const [, caught] = fs.readFileSync(`/proc/${pid}/status`, 'utf8').match(/^SigCgt:\s*(\w+)/m);
  return (BigInt(`0x${caught}`) >> BigInt(os.constants.signals[signal] - 1) & 1n) === 1n;
}

module.exports = {
  ...support, LANGUAGES, REGISTER, WORKERS, block, catches, environment, freeze, greeting, hold, holdBy, inTurns,
  spawnAll, takeTurns, thaw, untilText, whoAnswers, withPrimary,
};
