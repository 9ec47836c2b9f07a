// Package bpf holds the node's BPF programs, one C file a hook, and what bpf2go generates from them.
//
// The objects are committed, so that building wirelab needs no C compiler; `make generate` rewrites
// them. They must not depend on the machine they were made on: the compiler is pinned, DWARF is
// stripped, and bpf2go maps paths away.
package bpf

// The pod's program owns the types that the maps share.
//go:generate go tool bpf2go -cc clang-16 -strip llvm-strip-16 -target bpfel -type lab_reason -type lab_direction -type lab_scope -type lab_frontend -type lab_service_flag -type lab_backend_flag -type lab_timeout -type ct_kind -type stage -type lab_node_flag -type lab_mark -type lab_event_type -type lab_event_version -type event_header -type mac -type metric -cflags "-mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" Pod pod.c
//go:generate go tool bpf2go -cc clang-16 -strip llvm-strip-16 -target bpfel -no-global-types -cflags "-mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" Host host.c
//go:generate go tool bpf2go -cc clang-16 -strip llvm-strip-16 -target bpfel -no-global-types -cflags "-mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" Netdev netdev.c
//go:generate go tool bpf2go -cc clang-16 -strip llvm-strip-16 -target bpfel -no-global-types -type peer_key -type peer -cflags "-mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" Sock sock.c
//go:generate go tool bpf2go -cc clang-16 -strip llvm-strip-16 -target bpfel -no-global-types -type udp_socket -cflags "-mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" Connected connected.c
