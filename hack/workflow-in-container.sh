#!/usr/bin/env bash
# Runs the steps of a workflow that lab matrix writes, in a container that stands in for a GitHub runner, against real labs: once as
# they are, and once with a fault planted in the lab, which has to make the leg red with a report to keep. It takes four to six
# minutes. usage: hack/workflow-in-container.sh [PROFILE]
# It needs python3 with yaml. What a runner does and this does not: other people's actions, of which checkout is a git clone, and what
# upload-artifact would keep is listed.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-ebpf}
name=$profile
runner=wirelab-runner
work=$(mktemp -d)
export KUBECONFIG=$work/kubeconfig

say() { echo "workflow-in-container: $*" >&2; }

if bin/lab list | grep -q "^$name "; then
	say "there is a lab $name: lab down $name takes it away"
	exit 1
fi

clean() {
	docker rm -f "$runner" >/dev/null 2>&1 || true
	bin/lab down "$name" >/dev/null 2>&1 || true
	docker image rm "$runner" >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap clean EXIT

# The machine's programs and nothing else of it, with its Docker, as a runner has one.
tar -cf - -T /dev/null | docker import - "$runner" >/dev/null
mounts=()
for dir in /usr /bin /sbin /lib /lib64 /etc "$(go env GOROOT)"; do mounts+=(--volume "$dir:$dir:ro"); done
for dir in "$(go env GOMODCACHE)" "$(go env GOCACHE)" /var/lib/apt /var/lib/dpkg /var/cache/apt "$work" /var/run/docker.sock; do mounts+=(--volume "$dir:$dir"); done
docker run -d --rm --name "$runner" --network host --tmpfs /tmp:exec --tmpfs /root --workdir "$work" "${mounts[@]}" \
	--env "PATH=$PATH" --env "GOMODCACHE=$(go env GOMODCACHE)" --env "GOCACHE=$(go env GOCACHE)" --env "GOFLAGS=$(go env GOFLAGS)" \
	--env "GOPROXY=off" --env HOME=/root "$runner" sleep 1800 >/dev/null

bin/lab matrix "$profile" --workflow github >"$work/workflow.yml"

# Each step as a file: whether it always runs in its name, then what a shell is to run or an artifact is to keep.
cat >"$work/steps.py" <<'P'
import json, sys, yaml
job = yaml.safe_load(open("workflow.yml"))["jobs"]["lab"]
row = job["strategy"]["matrix"]["include"][0]
for i, step in enumerate(job["steps"]):
    text = step.get("run") or "\n".join("ls -d " + path + " || true" for path in step.get("with", {}).get("path", "").split())
    for key, value in row.items():
        text = text.replace("${{ matrix.%s }}" % key, str(value))
    kind = "always" if step.get("if") == "always()" else "unlessred"
    with open("%02d-%s.sh" % (i, kind), "w") as f:
        f.write("# " + step.get("name", step.get("uses", "")) + "\n" + text + "\n")
P
(cd "$work" && python3 steps.py)

# leg runs all steps in a clean workspace. It prints which one failed with which status, and fails with that.
leg() {
	local step status red=0
	rm -rf "$work/workspace" "$work/temp"
	git clone -q . "$work/workspace"
	mkdir "$work/temp"
	rm -f "$work"/{env,path,summary.md}
	touch "$work"/{env,path,summary.md}
	for step in "$work"/[0-9]*.sh; do
		if [ "$red" != 0 ] && [[ $step != *always* ]]; then continue; fi
		say "$(head -1 "$step")"
		status=0
		# shellcheck disable=SC2016 # the runner's shell is to expand it
		docker exec --workdir "$work/workspace" --env "RUNNER_TEMP=$work/temp" --env "GITHUB_ENV=$work/env" --env "GITHUB_PATH=$work/path" \
			--env "GITHUB_STEP_SUMMARY=$work/summary.md" "$runner" \
			bash -c 'set -a; . "$GITHUB_ENV"; set +a; while read -r dir; do PATH=$dir:$PATH; done <"$GITHUB_PATH"; exec bash -e "$1"' step "$step" || status=$?
		if [ "$status" != 0 ]; then
			say "it ended with $status"
			[ "$red" != 0 ] || red=$status
		fi
	done
	return "$red"
}

say "the leg as it is"
leg
say "the leg with a fault: node $name-worker drops datagrams of pods for itself"
bin/lab up "$profile" --name "$name" --no-verify >/dev/null
docker exec "$name-worker" iptables -I INPUT -p udp -s 10.0.0.0/8 -j DROP
status=0
leg || status=$?
if [ "$status" != 3 ]; then
	say "the leg ended with $status, want 3"
	exit 1
fi
for file in results.xml summary.md report; do
	if [ ! -e "$work/workspace/$file" ]; then
		say "no $file is there to keep"
		exit 1
	fi
done
say "of results.xml:"
grep -o '<testsuite [^>]*>' "$work/workspace/results.xml"
grep -m 1 -A 6 '<failure' "$work/workspace/results.xml"
say "of the job's summary:"
head -20 "$work/summary.md"
say "of the report:"
ls -l "$work/workspace/report"
