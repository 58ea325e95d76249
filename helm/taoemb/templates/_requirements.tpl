{{/* What the cluster must have, found by what its API server lists. */}}

{{/* "true" when the API is there: (list ROOT API). */}}
{{- define "taoemb.has" -}}
{{- $root := index . 0 -}}
{{- if or $root.Values.assumeApis ($root.Capabilities.APIVersions.Has (index . 1)) -}}true{{- end -}}
{{- end -}}

{{/* "true" when a value that may be auto is on: (list ROOT VALUE API). */}}
{{- define "taoemb.on" -}}
{{- $said := toString (index . 1) -}}
{{- if or (eq $said "true") (and (eq $said "auto") (include "taoemb.has" (list (index . 0) (index . 2)))) -}}true{{- end -}}
{{- end -}}

{{- define "taoemb.requirements" -}}
{{- $root := . -}}
{{- $kserve := "KServe (https://kserve.github.io/website, 0.20 or newer)" -}}
{{- $needed := list -}}
{{- if .Values.encoder.enabled -}}
{{- $needed = append $needed (list "serving.kserve.io/v1beta1/InferenceService" $kserve "encoder.enabled=false") -}}
{{- end -}}
{{- range $key := list "judge" "heldoutJudge" -}}
{{- if has (index $root.Values $key).mode (list "cpu" "vllm") -}}
{{- $needed = append $needed (list "serving.kserve.io/v1beta1/InferenceService" $kserve (printf "%s.mode=external" $key)) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.milvus.mode "operator" -}}
{{- $needed = append $needed (list "milvus.io/v1beta1/Milvus" "the Milvus Operator (https://github.com/zilliztech/milvus-operator)" "milvus.mode=external") -}}
{{- end -}}
{{- if and .Values.gateway.enabled .Values.gateway.httpRoute.enabled -}}
{{- $needed = append $needed (list "gateway.networking.k8s.io/v1/HTTPRoute" "the Gateway API (https://gateway-api.sigs.k8s.io)" "gateway.httpRoute.enabled=false") -}}
{{- end -}}
{{- if eq (toString .Values.training.enabled) "true" -}}
{{- $needed = append $needed (list (printf "trainer.kubeflow.org/v1alpha1/%s" .Values.training.kind) "Kubeflow Trainer v2 (https://www.kubeflow.org/docs/components/trainer)" "training.enabled=false") -}}
{{- end -}}
{{- if eq (toString .Values.monitoring.enabled) "true" -}}
{{- $needed = append $needed (list "monitoring.coreos.com/v1/PodMonitor" "the Prometheus Operator (https://prometheus-operator.dev)" "monitoring.enabled=false") -}}
{{- end -}}
{{- $missing := list -}}
{{- range $need := $needed -}}
{{- if not (include "taoemb.has" (list $root (index $need 0))) -}}
{{- $missing = append $missing (printf "%s: install %s or set %s" (index $need 0) (index $need 1) (index $need 2)) -}}
{{- end -}}
{{- end -}}
{{- if $missing -}}
{{- fail (printf "the cluster lacks %s (without a cluster: --set assumeApis=true)" (join "; " (uniq $missing))) -}}
{{- end -}}
{{- range $key := list "judge" "heldoutJudge" -}}
{{- $judge := index $root.Values $key -}}
{{- if and (eq $judge.mode "vllm") (not $judge.release) (not (hasPrefix "hf://" $judge.storageUri)) -}}
{{- fail (printf "%s.release: name the weights of %s.storageUri and their version: vLLM knows them only by the path /mnt/models, where others may lie tomorrow" $key $key) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.encoder.enabled) -}}
{{- fail "gateway.enabled: the gateway needs the encoder: set encoder.enabled=true, or gateway.enabled=false" -}}
{{- end -}}
{{- if and .Values.gateway.httpRoute.enabled (not .Values.gateway.httpRoute.parentRefs) -}}
{{- fail "gateway.httpRoute.parentRefs: name the Gateway that carries the route" -}}
{{- end -}}
{{- if and (eq .Values.milvus.mode "operator") .Values.milvus.tokenSecret (not .Values.milvus.operator.passwordSet) -}}
{{- fail "milvus.tokenSecret: the Milvus Operator sets no password, so root's would stay the well-known one: change it (docs/kubernetes.md says how), then set milvus.operator.passwordSet=true" -}}
{{- end -}}
{{- if and .Values.networkPolicies.enabled .Values.gateway.enabled (has .Values.gateway.service.type (list "LoadBalancer" "NodePort")) -}}
{{- $outside := empty .Values.networkPolicies.clients -}}
{{- range .Values.networkPolicies.clients -}}{{- if hasKey . "ipBlock" -}}{{- $outside = true -}}{{- end -}}{{- end -}}
{{- if not $outside -}}
{{- fail (printf "gateway.service.type=%s: networkPolicies.clients lets only pods of the cluster in: add an ipBlock with the clients' or the load balancer's addresses" .Values.gateway.service.type) -}}
{{- end -}}
{{- end -}}
{{- if gt (int .Values.encoder.minReplicas) (int .Values.encoder.maxReplicas) -}}
{{- fail "encoder.minReplicas is more than encoder.maxReplicas" -}}
{{- end -}}
{{- if gt (int .Values.gateway.autoscaling.minReplicas) (int .Values.gateway.autoscaling.maxReplicas) -}}
{{- fail "gateway.autoscaling.minReplicas is more than gateway.autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and (ne .Values.encoder.mode "Knative") (has .Values.encoder.scaleMetric (list "concurrency" "rps")) -}}
{{- fail (printf "encoder.scaleMetric=%s: only Knative counts that; use cpu or memory, or encoder.mode=Knative" .Values.encoder.scaleMetric) -}}
{{- end -}}
{{- end -}}
