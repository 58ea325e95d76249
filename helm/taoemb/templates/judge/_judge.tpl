{{/* A judge that KServe runs: (list ROOT KEY DEFAULTFOLDER). */}}
{{- define "taoemb.judge.service" -}}
{{- $root := index . 0 -}}
{{- $judge := index $root.Values (index . 1) -}}
{{- $name := include (printf "taoemb.%s" (index . 1)) $root -}}
{{- $vllm := eq $judge.mode "vllm" -}}
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  {{- include "taoemb.steadyMetadata" (list $root $name "judge") | nindent 2 }}
  annotations:
    serving.kserve.io/deploymentMode: Standard
    serving.kserve.io/autoscalerClass: none
spec:
  predictor:
    serviceAccountName: {{ $name }}
    minReplicas: {{ $judge.replicas }}
    maxReplicas: {{ $judge.replicas }}
    {{- with include "taoemb.placement" $judge }}{{ . | nindent 4 }}{{ end }}
    securityContext:
      {{- include "taoemb.podSecurity" $root | nindent 6 }}
    terminationGracePeriodSeconds: 60
    model:
      modelFormat:
        name: {{ $vllm | ternary "huggingface" "taoemb-judge" }}
      runtime: {{ $vllm | ternary $judge.vllm.runtime (printf "%s-cpu" (include "taoemb.judge" $root)) }}
      storageUri: {{ $judge.storageUri | default (include "taoemb.artefact" (list $root (index . 2))) }}
      args:
        {{- if $vllm }}
        - --model_name={{ $judge.model }}
        - --backend=vllm
        - --dtype={{ $judge.vllm.dtype }}
        - --max-model-len={{ $judge.vllm.maxModelLength | int }}
        - --tensor-parallel-size={{ $judge.vllm.tensorParallel | int }}
        - --gpu-memory-utilization={{ $judge.vllm.gpuMemoryUtilization }}
        - {{ $judge.vllm.prefixCaching | ternary "--enable-prefix-caching" "--no-enable-prefix-caching" }}
        {{- range $judge.vllm.extraArgs }}
        - {{ . | quote }}
        {{- end }}
        {{- else }}
        - --name={{ $judge.model }}
        {{- end }}
      {{- if $vllm }}
      env:
        # The image's caches lie in the home folder, which can't be written.
        - name: HOME
          value: /tmp
        - name: HF_HOME
          value: /tmp/huggingface
      ports:
        - name: http1
          containerPort: 8080
          protocol: TCP
      startupProbe:
        httpGet: {path: /v2/health/ready, port: 8080}
        periodSeconds: 10
        failureThreshold: 180
      readinessProbe:
        httpGet: {path: /v2/health/ready, port: 8080}
        periodSeconds: 10
        timeoutSeconds: 5
      securityContext:
        {{- include "taoemb.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - name: scratch
          mountPath: /tmp
        - name: shared-memory
          mountPath: /dev/shm
      {{- end }}
      resources:
        {{- include "taoemb.resources" (list $judge.resources ($vllm | ternary $judge.vllm.gpus 0) $judge.vllm.gpuResource) | nindent 8 }}
    {{- if $vllm }}
    volumes:
      - name: scratch
        emptyDir:
          sizeLimit: {{ $judge.scratch }}
      - name: shared-memory
        emptyDir:
          medium: Memory
          sizeLimit: {{ $judge.vllm.sharedMemory }}
    {{- end }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "taoemb.metadata" (list $root $name "judge") | nindent 2 }}
  {{- with $judge.serviceAccountAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- $secrets := list $judge.hfTokenSecret }}
{{- if eq $root.Values.artefacts.type "s3" }}{{ $secrets = append $secrets $root.Values.artefacts.s3.existingSecret }}{{ end }}
{{- with compact $secrets }}
secrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}
