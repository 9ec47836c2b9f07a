// Makes a lab and has it verified. What came out is in outputs and in the job's summary, also where it failed.
'use strict';

const fs = require('fs');
const path = require('path');
const { input, lines, main, note, required, run } = require('./runner.js');

const here = path.dirname(__dirname);

// inPath is the program of that name in PATH, empty where there is none.
function inPath(name) {
  for (const dir of (process.env.PATH || '').split(path.delimiter)) {
    const file = path.resolve(dir, name);
    if (dir && isProgram(file)) {
      return file;
    }
  }
  return '';
}

function isProgram(file) {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

// findLab is the binary that the workflow names, else the one in PATH, else one that is built here.
async function findLab() {
  const given = input('lab');
  if (given) {
    if (!isProgram(given)) {
      throw failed(`the input lab is ${given}: there is no such program`, 2);
    }
    return path.resolve(given);
  }
  if (inPath('lab')) {
    return inPath('lab');
  }
  if (!inPath('go') || !inPath('make')) {
    throw new Error('there is no lab in PATH, and no Go and make to build it with: set the input lab to the binary, or set up Go before this step');
  }
  const { status, last } = await run('make', ['-C', here, 'build']);
  if (status !== 0) {
    throw new Error(`lab cannot be built: ${last}`);
  }
  return path.join(here, 'bin', 'lab');
}

// flag is an input that is true or false.
function flag(name, otherwise) {
  const value = input(name) || otherwise;
  if (value !== 'true' && value !== 'false') {
    throw failed(`the input ${name} is ${value}: it is true or false`, 2);
  }
  return value === 'true';
}

// nameOf is the lab's name: the one given, else the profile's.
function nameOf(profile) {
  return input('name') || path.basename(profile).replace(/\.ya?ml$/, '');
}

function failed(message, status) {
  return Object.assign(new Error(message), { status });
}

main(async () => {
  const profile = input('profile');
  if (!profile) {
    throw failed('the input profile is empty: say which lab to make', 2);
  }
  const name = nameOf(profile);
  const verify = flag('verify', 'true');
  const lab = await findLab();
  const dir = fs.mkdtempSync(path.join(required('RUNNER_TEMP'), `lab-${name.replace(/[^A-Za-z0-9-]/g, '_')}-`));
  const file = (base) => path.join(dir, base);

  if (input('bundle')) {
    const { status, last } = await run(lab, ['image', 'load', input('bundle')]);
    if (status !== 0) {
      throw failed(`the node image cannot be loaded: ${last}`, status);
    }
  }

  const args = ['up', profile, '--name', name, '--kubeconfig', file('kubeconfig'), '--timings', file('timings.json'), '--report', file('report')];
  if (input('kubernetes')) {
    args.push('--set', `cluster.image=kindest/node:${input('kubernetes')}`);
  }
  lines('set').forEach((setting) => args.push('--set', setting));
  lines('budget').forEach((budget) => args.push('--budget', budget));
  if (verify) {
    args.push('--output-file', file('results.xml'), '--output-file', file('summary.md'));
  } else {
    args.push('--no-verify');
  }
  // From here on there may be a lab, which post.js takes down.
  note('GITHUB_STATE', 'lab', lab);
  note('GITHUB_STATE', 'name', name);
  const { status, last } = await run(lab, args);

  const there = (base) => (fs.existsSync(file(base)) ? file(base) : '');
  note('GITHUB_OUTPUT', 'kubeconfig', there('kubeconfig'));
  note('GITHUB_OUTPUT', 'context', `kind-${name}`);
  note('GITHUB_OUTPUT', 'results', there('results.xml'));
  const report = fs.existsSync(path.join(file('report'), 'report.html')) ? file('report') : '';
  note('GITHUB_OUTPUT', 'report', report);
  if (there('summary.md')) {
    fs.appendFileSync(required('GITHUB_STEP_SUMMARY'), `${fs.readFileSync(file('summary.md'), 'utf8')}\n`);
  }
  if (status !== 0) {
    throw failed(last || `lab up ended with status ${status}`, status);
  }
});
