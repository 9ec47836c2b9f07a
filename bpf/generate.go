// Package bpf holds the node's BPF programs, one C file a hook, and what bpf2go generates from them.
//
// The objects are committed, so that building wirelab needs no C compiler; `make generate` rewrites
// them. They must not depend on the machine they were made on: the compiler is pinned, DWARF is
// stripped, and bpf2go maps paths away. Debian 12 and 13 make the same bytes, each with its own headers.
package bpf

//go:generate -command bpf2go go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-Werror @compile_flags.txt"

// The pod's program owns the types that the maps share.
//go:generate bpf2go -type lab_reason -type lab_direction -type lab_scope -type lab_frontend -type lab_service_flag -type lab_backend_flag -type lab_timeout -type ct_kind -type flow -type translation -type tuple_direction -type tuple_flag -type lab_node_flag -type lab_ipcache_flag -type lab_mark -type lab_event_type -type lab_event_version -type lab_point -type lab_state -type lab_occasion -type lab_step -type lab_table -type event_header -type event -type step -type mac -type metric Pod pod.c
//go:generate bpf2go -no-global-types Host host.c
//go:generate bpf2go -no-global-types Netdev netdev.c
//go:generate bpf2go -no-global-types -type peer_key -type peer Sock sock.c
//go:generate bpf2go -no-global-types -type udp_socket Connected connected.c
