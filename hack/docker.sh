# shellcheck shell=bash
# Docker for deps.sh, which sources this: is an engine there, start one where no init system does, and
# the runtime that hosts without CAP_SYS_RESOURCE need.

docker_log=/var/log/wirelab-dockerd.log
docker_ours=/run/wirelab-dockerd.pid # the dockerd that start_docker has started
docker_config=/etc/docker/daemon.json
runtime=/usr/local/lib/wirelab/ociruntime

engine_answers() {
	command -v docker >/dev/null && timeout 15 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
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
	lacks_sys_resource || return 0
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
	say "this host lacks CAP_SYS_RESOURCE: registering the wirelab runtime in $docker_config"
	"$runtime" register "$docker_config" || die "could not change $docker_config: see above"
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
	case ${DOCKER_HOST:-unix:///var/run/docker.sock} in
	unix:///var/run/docker.sock | unix:///run/docker.sock) ;;
	*) die "DOCKER_HOST is $DOCKER_HOST and no engine answers there: start it, or unset DOCKER_HOST to use this machine's" ;;
	esac
	if [ -d /run/systemd/system ]; then
		say "starting the docker service"
		systemctl start docker.service || die "the docker service did not start: see journalctl -u docker"
	else
		start_dockerd
	fi
	await_docker
}

start_dockerd() {
	say "starting dockerd, log in $docker_log"
	remove_stale_pid /run/docker.pid dockerd
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
	if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$2" ]; then
		rm -f "$1"
	fi
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
	pid=$(cat "$docker_ours" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]
}

stop_our_dockerd() {
	local pid deadline=$((SECONDS + 60))
	pid=$(cat "$docker_ours")
	say "restarting dockerd"
	kill "$pid"
	while kill -0 "$pid" 2>/dev/null; do
		[ $SECONDS -lt $deadline ] || die "dockerd ($pid) does not end: stop it by hand, then run this again"
		sleep 0.2
	done
}
