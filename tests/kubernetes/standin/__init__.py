"""A stand-in for a Kubernetes cluster: what is real in it, and what is not.

No kube-apiserver can be had where these tests run, so this stands in for one, with a scheduler and one node. Real are
the protocol (HTTP, JSON, watches, merge patches, graceful deletion, Status answers), the objects (every one that comes
in or goes out is held against Kubernetes' own OpenAPI schemas of two minor versions), and the containers: each Pod is a
container of the Docker Engine, so exit codes, signals, memory limits and output come from a kernel and runc. Its log is
kept in lines as a container runtime keeps it, and read as the kubelet reads it.

Imitated, from Kubernetes' documentation and source: admission (defaults, ResourceQuota), scheduling gates, the words of
waiting and terminated containers, evictions, and the deletion of a silent node's Pods. It cannot show how a real
cluster is timed, what its admission plugins add, how its network is cut, or anything of etcd; and Docker's own init
stands in for the Pod's first process.
"""
