// What GitHub's runner and a JavaScript action say to each other, without a library.
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const { spawn } = require('child_process');

// input is what the workflow gives under a name, without blanks around it; empty where it gives nothing.
function input(name) {
  return (process.env[`INPUT_${name.toUpperCase()}`] || '').trim();
}

// lines are those of an input that say something.
function lines(name) {
  return input(name).split('\n').map((line) => line.trim()).filter((line) => line !== '');
}

// note appends name and value to the file that the runner reads: GITHUB_OUTPUT or GITHUB_STATE.
function note(file, name, value) {
  const end = `end-${crypto.randomUUID()}`;
  fs.appendFileSync(required(file), `${name}<<${end}\n${value}\n${end}\n`);
}

function required(name) {
  const value = process.env[name];
  if (!value) {
    throw new Error(`${name} is not set: this runs as a step of a workflow`);
  }
  return value;
}

// annotate makes a line an error or a warning of the job.
function annotate(kind, text) {
  const escaped = text.replace(/%/g, '%25').replace(/\r/g, '%0D').replace(/\n/g, '%0A');
  process.stdout.write(`::${kind}::${escaped}\n`);
}

// run runs a command with its output in the job's log, where it gives the runner no commands, and resolves with its exit status and
// what it said last: the line that lab begins with its name, or the last one of standard error. A signal to end is handed on, and the command waited for.
function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const token = crypto.randomUUID();
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'pipe'], ...options });
    const hand = (signal) => child.kill(signal);
    process.on('SIGINT', hand).on('SIGTERM', hand);
    process.stdout.write(`::stop-commands::${token}\n`);
    let said = '';
    child.stderr.on('data', (chunk) => {
      process.stdout.write(chunk);
      said = (said + chunk).slice(-8192);
    });
    const over = () => {
      process.removeListener('SIGINT', hand).removeListener('SIGTERM', hand);
      process.stdout.write(`\n::${token}::\n`);
    };
    child.on('error', (err) => {
      over();
      reject(new Error(`${command} cannot be run: ${err.message}`));
    });
    child.on('close', (status, signal) => {
      over();
      const all = said.split('\n').filter((line) => line.trim() !== '');
      const last = (all.filter((line) => line.startsWith('lab: ')).pop() || all.pop() || '').replace(/^lab: /, '');
      resolve({ status: signal ? 1 : status, last });
    });
  });
}

// main runs an action, and makes what it throws an error of the job. The exit status is that of the lab command, where that failed.
async function main(action) {
  try {
    await action();
  } catch (err) {
    annotate('error', err.message);
    process.exitCode = err.status || 1;
  }
}

module.exports = { annotate, input, lines, main, note, required, run };
