# shellcheck shell=bash
# Docker for deps.sh, which sources this: is an engine there, start one where no init system does, and
# the runtime that hosts without CAP_SYS_RESOURCE need.

docker_socket=unix:///var/run/docker.sock
docker_log=/var/log/wirelab-dockerd.log
docker_ours=/run/wirelab-dockerd.pid # the dockerd that start_docker has started
dockerd_pid=/run/docker.pid # any dockerd's own
docker_config=/etc/docker/daemon.json
runtime=/usr/local/lib/wirelab/ociruntime

engine_answers() {
	command -v docker >/dev/null && timeout 15 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

# engine_host: where the docker command looks for its engine: DOCKER_HOST, or the context in use.
engine_host() {
	if command -v docker >/dev/null; then
		docker context inspect --format '{{.Endpoints.docker.Host}}'
	else
		echo "${DOCKER_HOST:-$docker_socket}"
	fi
}

# lacks_sys_resource: CAP_SYS_RESOURCE, number 24, is not in the bounding set, so no container gets it.
lacks_sys_resource() {
	local set
	set=$(awk '/^CapBnd/ {print $2}' /proc/self/status)
	[ $((0x$set >> 24 & 1)) = 0 ]
}

# install_runtime makes ociruntime Docker's default runtime on hosts that need it. It comes before
# Docker is installed, because installing can start the engine.
install_runtime() {
	lacks_sys_resource && [ "$(engine_host)" = "$docker_socket" ] || return 0
	local default=
	if engine_answers; then
		default=$(docker info --format '{{.DefaultRuntime}}')
		# Whoever set another default has found a way of their own.
		case $default in runc | wirelab) ;; *) return 0 ;; esac
	fi
	build_runtime
	if [ "$default" = wirelab ]; then
		return 0
	fi
	if [ -n "$default" ] && ! dockerd_is_ours; then
		die "this host lacks CAP_SYS_RESOURCE and the running Docker cannot start privileged containers: stop it, then run this again"
	fi
	local before
	before=$(cat "$docker_config" 2>/dev/null || true)
	"$runtime" register "$docker_config" || die "could not register the runtime that this host needs"
	[ "$before" = "$(cat "$docker_config")" ] ||
		say "this host lacks CAP_SYS_RESOURCE: registered the wirelab runtime in $docker_config"
	if [ -n "$default" ]; then
		stop_our_dockerd
	fi
}

build_runtime() {
	local want
	want=$(cat ociruntime/*.go | sha256sum | cut -d' ' -f1)
	if [ -x "$runtime" ] && [ "$(cat "$runtime.inputs" 2>/dev/null)" = "$want" ]; then
		return
	fi
	mkdir -p "${runtime%/*}"
	CGO_ENABLED=0 go build -trimpath -o "$runtime.new" ./ociruntime || die "could not build the OCI runtime: see above"
	mv "$runtime.new" "$runtime"
	echo "$want" >"$runtime.inputs"
}

# start_docker returns once an engine answers.
start_docker() {
	if engine_answers; then
		return
	fi
	command -v docker >/dev/null || die "there is no docker command: install the Docker client"
	local host
	host=$(engine_host)
	[ "$host" = "$docker_socket" ] ||
		die "no Docker Engine answers at $host: start it, or unset DOCKER_HOST and choose the default context to use this machine's"
	if [ -d /run/systemd/system ]; then
		say "starting the docker service"
		rm -f "$docker_ours"
		systemctl start docker.service || die "the docker service did not start: see journalctl -u docker"
	else
		await_other_dockerd
		engine_answers || start_dockerd
	fi
	await_docker
}

# await_other_dockerd: one that runs and does not answer is starting or ending, and no other starts beside it.
await_other_dockerd() {
	local pid deadline=$((SECONDS + 60))
	pid=$(cat "$dockerd_pid" 2>/dev/null) || return 0
	while runs "$pid" dockerd && ! engine_answers; do
		[ $SECONDS -lt $deadline ] || die "dockerd ($pid) neither answers nor ends: stop it by hand, then run this again"
		sleep 0.2
	done
}

start_dockerd() {
	say "starting dockerd, log in $docker_log"
	remove_stale_pid "$dockerd_pid" dockerd
	remove_stale_pid /run/docker/containerd/containerd.pid containerd
	# Containers inherit these limits, and kubelet and etcd open many files.
	(
		ulimit -n "$(ulimit -Hn)"
		exec setsid dockerd >>"$docker_log" 2>&1 </dev/null 9>&-
	) &
	echo $! >"$docker_ours"
}

# remove_stale_pid FILE COMMAND: a killed daemon leaves its pid file, and by the next start that number
# can belong to another program, which dockerd would take for itself.
remove_stale_pid() {
	local pid
	pid=$(cat "$1" 2>/dev/null) || return 0
	runs "$pid" "$2" || rm -f "$1"
}

# runs PID COMMAND: that process is there, is this command, and is not just waiting to be reaped.
runs() {
	local status
	status=$(cat "/proc/$1/status" 2>/dev/null) || return
	[[ $status == "Name:"$'\t'"$2"$'\n'* && $status != *$'\n'"State:"$'\t'Z* ]]
}

await_docker() {
	local deadline=$((SECONDS + 90))
	until engine_answers; do
		if [ -f "$docker_ours" ] && ! kill -0 "$(cat "$docker_ours")" 2>/dev/null; then
			tail -n 20 "$docker_log" >&2
			die "dockerd has ended: $docker_log says why"
		fi
		if [ $SECONDS -ge $deadline ]; then
			tail -n 20 "$docker_log" >&2 2>/dev/null || true
			die "Docker does not answer after 90 seconds: see $docker_log or journalctl -u docker"
		fi
		sleep 0.2
	done
}

dockerd_is_ours() {
	local pid
	pid=$(cat "$docker_ours" 2>/dev/null) && runs "$pid" dockerd
}

stop_our_dockerd() {
	local pid deadline=$((SECONDS + 60))
	pid=$(cat "$docker_ours")
	say "restarting dockerd"
	kill "$pid"
	while runs "$pid" dockerd; do
		[ $SECONDS -lt $deadline ] || die "dockerd ($pid) does not end: stop it by hand, then run this again"
		sleep 0.2
	done
}
